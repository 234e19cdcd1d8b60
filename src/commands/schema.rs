use std::path::PathBuf;

use clap::Args;
use schemars::Schema;
use serde_json::Value;

use super::Outcome;
use super::common::json;
use super::run::Config;
use super::validate::Validation;
use crate::adapters::files;
use crate::agent::rights;
use crate::engine::ApplyReport;
use crate::engine::audit::AuditReport;
use crate::error::Failure;
use crate::manifest::crd;
use crate::manifest::schema::{self, of};
use crate::model::{ClusterManifest, FleetManifest, GroupManifest, NodeManifest, Notice};
use crate::plan::Plan;
use crate::rebalance::Record;
use crate::report::{BacktestReport, DaemonStatus, Explanation, MoveReport, RebalanceReport, Status};
use crate::ui::Ui;

/// Write the JSON Schemas of the state files and of drover's own JSON
///
/// An editor checks a state file as it is written when its first line is
/// `# yaml-language-server: $schema=PATH/state.schema.json`.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Which schema; without it, their names are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Write all schemas into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    out: Option<PathBuf>,

    /// Write what clusters need for agents into this folder: the custom resource NodeStorage, and the rights of an agent
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "out"])]
    deploy: Option<PathBuf>,
}

fn all() -> [(&'static str, Schema); 18] {
    [
        ("state", schema::state()),
        ("fleet", of::<FleetManifest>()),
        ("cluster", of::<ClusterManifest>()),
        ("group", of::<GroupManifest>()),
        ("node", of::<NodeManifest>()),
        ("plan", of::<Plan>()),
        ("apply", of::<ApplyReport>()),
        ("validation", of::<Validation<'_>>()),
        ("status", of::<Status>()),
        ("daemon", of::<DaemonStatus>()),
        ("run", of::<Config>()),
        ("explain", of::<Vec<Explanation>>()),
        ("notice", of::<Notice>()),
        ("move", of::<MoveReport>()),
        ("audit", of::<AuditReport>()),
        ("rebalance", of::<RebalanceReport>()),
        ("rebalance-record", of::<Record>()),
        ("backtest", of::<BacktestReport>()),
    ]
}

/// The files of `deploy/` that are generated.
fn deployed() -> Result<[(&'static str, String); 2], Failure> {
    const HEAD: &str = "# Generated: cargo run -- schema --deploy deploy\n";
    let yaml = |objects: &[Value]| {
        let texts = objects.iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|error| Failure::caused("cannot write YAML", &error))?;
        Ok::<_, Failure>(format!("{HEAD}{}", texts.join("---\n")))
    };
    Ok([("nodestorages.yaml", yaml(&[crd::node_storage()])?), ("agent-rbac.yaml", yaml(&rights::objects())?)])
}

pub(super) fn run(args: &SchemaArgs, ui: Ui) -> Result<Outcome, Failure> {
    if let Some(folder) = &args.deploy {
        let files = deployed()?;
        files::create_folder(folder)?;
        for (name, text) in &files {
            files::replace(&folder.join(name), text)?;
        }
        ui.note(&format!("wrote {} files to {}", files.len(), folder.display()));
        return Ok(Outcome::Done);
    }
    let all = all();
    let names = all.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    if let Some(folder) = &args.out {
        files::create_folder(folder)?;
        for (name, schema) in &all {
            files::replace(&folder.join(format!("{name}.schema.json")), &json(schema)?)?;
        }
        ui.note(&format!("wrote {} schemas to {}", all.len(), folder.display()));
        return Ok(Outcome::Done);
    }
    match &args.name {
        None => ui.out(&(names.join("\n") + "\n"))?,
        Some(wanted) => match all.iter().find(|(name, _)| name == wanted) {
            Some((_, schema)) => ui.out(&json(schema)?)?,
            None => {
                return Err(Failure::new(format!("there is no schema {wanted:?}"))
                    .hint(format!("there are: {}", names.join(", "))));
            }
        },
    }
    Ok(Outcome::Done)
}
