use clap::Args;
use futures::future::join_all;
use jiff::Timestamp;

use super::Outcome;
use super::common::{AllowArgs, ClusterArgs, Format, StateArgs, json};
use crate::engine::audit::node_history;
use crate::engine::{self, pass::selected};
use crate::error::Failure;
use crate::model::NodeName;
use crate::model::text::closest;
use crate::plan::Source;
use crate::report::{Explanation, explain, explain_binds, explain_text};
use crate::ui::Ui;

/// Explain why a node has each of its labels, and where it has been
///
/// For each label: what the state asks for and in which line and commit, what is live, who set it, and whether drover
/// would change it. Then its history: who moved it from which group to which, when, and why.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,

    #[command(flatten)]
    clusters: ClusterArgs,

    /// How the explanation is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) async fn run(args: &ExplainArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let loaded = args.state.load_and_tell(ui, now)?;
    let clusters = selected(&loaded, &args.clusters.wanted(&AllowArgs::default()))?;
    let looks = join_all(clusters.iter().map(|(name, cluster)| engine::observe(&loaded, name, cluster))).await;
    let (mut found, mut names, mut unreachable): (Vec<Explanation>, Vec<String>, Vec<String>) = Default::default();
    for ((name, cluster), look) in clusters.into_iter().zip(looks) {
        let document = cluster.nodes.get(args.node.as_str()).map(AsRef::as_ref);
        let live = match &look {
            Ok(observed) => Ok(observed.nodes.nodes.get(&args.node)),
            Err(failure) => Err(failure.to_string()),
        };
        names.extend(cluster.nodes.keys().map(NodeName::to_string));
        names.extend(look.iter().flat_map(|observed| observed.nodes.nodes.keys().cloned()));
        if let (None, Err(cause)) = (document, &live) {
            unreachable.push(format!("{name} is unreachable: {cause}"));
        }
        if document.is_some() || matches!(live, Ok(Some(_))) {
            let seen = look.as_ref().map(|observed| &observed.nodes).map_err(ToString::to_string);
            let place = (name, cluster);
            let binds = look.as_ref().ok().and_then(|observed| observed.kubelet.as_ref()?.seen.as_ref().ok());
            let told = explain(&loaded.revision, place, &args.node, &loaded.desired.vocabulary, seen, now);
            let history = node_history(&loaded, name, &args.node, now)?;
            found.push(Explanation { binds: explain_binds(cluster, binds), history, ..told });
        }
    }
    if found.is_empty() {
        let failure = Failure::new(format!("no cluster has a node {:?}, neither live nor in the state", args.node));
        let near = closest(&args.node, names.iter().map(String::as_str)).map(|near| format!("did you mean {near}?"));
        let hint = near.into_iter().chain(unreachable).collect::<Vec<_>>().join("; ");
        return Err(if hint.is_empty() { failure } else { failure.hint(hint) });
    }
    loaded.blame(found.iter_mut().flat_map(sources));
    match args.format {
        Format::Text => ui.out(&found.iter().map(explain_text).collect::<Vec<_>>().join("\n"))?,
        Format::Json => ui.out(&json(&found)?)?,
    }
    let trouble =
        !loaded.is_valid() || !unreachable.is_empty() || found.iter().any(|found| found.unreachable.is_some());
    Ok(if trouble { Outcome::Error } else { Outcome::Done })
}

fn sources(explanation: &mut Explanation) -> impl Iterator<Item = &mut Source> {
    let labels = explanation.labels.iter_mut().filter_map(|label| label.source.as_mut());
    let binds = explanation.binds.iter_mut().filter_map(|bind| bind.source.as_mut());
    explanation.document.iter_mut().chain(labels).chain(binds)
}
