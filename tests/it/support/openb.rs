//! The machines of Alibaba's public GPU cluster trace, read from the shared folder beside the checkout.

use std::fs;

use super::control_plane::NodeSpec;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/traces/openb-nodes.csv");
const HEADER: &str = "sn,cpu_milli,memory_mib,gpu,model";

/// A machine that has a GPU model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) cpu_milli: u32,
    pub(crate) memory_mib: u32,
    pub(crate) gpus: u32,
    pub(crate) model: String,
}

impl From<&Machine> for NodeSpec {
    /// Without labels: which ones the model gives is up to the test.
    fn from(machine: &Machine) -> Self {
        Self::new(&machine.name)
            .resources(format!("{}m", machine.cpu_milli), format!("{}Mi", machine.memory_mib))
            .gpus(machine.gpus)
    }
}

/// The 1,213 machines, or None, said on stderr, where the folder is not; CI always has it.
pub(crate) fn machines() -> Option<Vec<Machine>> {
    let text = match fs::read_to_string(FILE) {
        Ok(text) => text,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{FILE}: {e}");
            eprintln!("test skipped: {FILE}: {e}");
            return None;
        }
    };
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(HEADER), "{FILE}: its columns changed");
    Some(lines.zip(2..).filter_map(|(line, number)| machine(line, number)).collect())
}

fn machine(line: &str, number: usize) -> Option<Machine> {
    let fields: Vec<_> = line.split(',').collect();
    let [name, cpu, memory, gpus, model] = fields[..] else {
        panic!("{FILE}:{number}: not 5 fields: {line}");
    };
    let count = |field: &str| field.parse().unwrap_or_else(|e| panic!("{FILE}:{number}: {field}: {e}"));
    (!model.is_empty()).then(|| Machine {
        name: name.into(),
        cpu_milli: count(cpu),
        memory_mib: count(memory),
        gpus: count(gpus),
        model: model.into(),
    })
}
