//! `POST /hooks/git`: a git server says that something was pushed.
//!
//! A delivery only makes the daemon look at its repository earlier than it would have; nothing in its body is believed,
//! or even kept: it runs through the signature check as it arrives. That is why no configured secret is an option, in
//! which case every delivery is accepted, and why a replay can do no harm beyond one conditional request to the
//! repository. Delivery ids are refused when they come again, but most servers do not sign them.
//!
//! Every sender proves itself in its own way, with one of the secrets:
//!
//! | sender | proof | event |
//! |---|---|---|
//! | GitHub | `X-Hub-Signature-256: sha256=…` | `X-GitHub-Event` |
//! | Gitea, Forgejo | `X-Gitea-Signature` or `X-Forgejo-Signature` | `X-Gitea-Event` |
//! | GitLab, signing token | `webhook-signature`, `webhook-id`, `webhook-timestamp` (Standard Webhooks) | `X-Gitlab-Event` |
//! | GitLab, secret token | `X-Gitlab-Token` | `X-Gitlab-Event` |
//! | scripts | `X-Drover-Signature-256: sha256=…` or `Authorization: Bearer …` | each is a push |

mod replays;
mod serve;
mod verify;

pub use replays::Replays;
pub use serve::{Hooks, router};
pub use verify::{Check, Delivery, Event, MAX_BODY, Provider, Rejected, Secrets};
