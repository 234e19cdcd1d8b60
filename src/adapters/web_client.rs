//! Asks another process over HTTP.

use std::time::Duration;

use crate::error::Failure;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The body at an address.
pub fn get(url: &str) -> Result<String, Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let answer = agent.get(url).call().map_err(|error| {
        Failure::caused(format!("{url} cannot be read"), &error).hint("is the daemon running, and is this its address?")
    })?;
    answer.into_body().read_to_string().map_err(|error| Failure::caused(format!("{url} cannot be read"), &error))
}
