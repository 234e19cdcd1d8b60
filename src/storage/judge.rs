//! From what was seen of a machine's storage to what it comes to.

use std::time::Duration;

use jiff::Timestamp;

use super::facts::{Facts, Fault, RootFact, Space};
use crate::model::storage::{KubeletView, MountFact, StorageReason, StorageReport, StorageWanted};

/// File systems of a machine's own disks and memory: what is seen where nothing is mounted.
const OWN: [&str; 22] = [
    "aufs",
    "bcachefs",
    "btrfs",
    "devtmpfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "hugetlbfs",
    "jfs",
    "overlay",
    "ramfs",
    "reiserfs",
    "rootfs",
    "squashfs",
    "tmpfs",
    "vfat",
    "xfs",
    "zfs",
    "iso9660",
];
/// How many faulty directories a message names.
const NAMED: usize = 3;
/// The longest message, in bytes: a Node keeps it, and thousands of them are kept.
const LONGEST: usize = 700;

/// What a look came to, and why.
pub type Judged = (StorageReason, String);

/// Around a look: what a report tells beside what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The generation of the spec.
    pub generation: i64,
    /// When.
    pub checked: Timestamp,
    /// Tells one start of the machine from another.
    pub boot_id: String,
    /// The version of the agent.
    pub agent: String,
}

/// Whether a mount is one that state allows. Nothing is written to any other one.
pub fn acceptable(wanted: &StorageWanted, mount: &MountFact) -> Result<(), Judged> {
    if wanted.local {
        return Ok(());
    }
    let (root, kind, source) = (&wanted.root, mount.file_system.as_str(), mount.source.as_str());
    let at = &mount.mount_point;
    if !wanted.file_systems.iter().any(|known| known == kind) {
        if OWN.contains(&kind) || source.starts_with("/dev/") {
            let message =
                format!("{root} lies on the machine's own disk ({kind}, mounted at {at}): nothing is mounted there");
            return Err((StorageReason::NotMounted, message));
        }
        let wanted = wanted.file_systems.join(", ");
        let message = format!("{root} lies on {kind} ({source}, mounted at {at}), and should on one of: {wanted}");
        return Err((StorageReason::WrongFileSystem, message));
    }
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => source.starts_with(beginning),
        None => source == pattern,
    };
    if !wanted.sources.is_empty() && !wanted.sources.iter().any(fits) {
        let wanted = wanted.sources.join(", ");
        let message = format!("{source} is mounted at {at}, and {root} should lie on: {wanted}");
        return Err((StorageReason::WrongSource, message));
    }
    Ok(())
}

/// What the facts come to. Where several things are wrong, the one comes first without which the others mean little, or
/// that loses data; what is merely unknown comes last.
pub fn judge(wanted: &StorageWanted, facts: &Facts) -> Judged {
    let mount = match &facts.root {
        RootFact::Found { mount, .. } => mount,
        other => return judge_absent(wanted, other),
    };
    let faults = [
        acceptable(wanted, mount).err(),
        mount.read_only.then(|| {
            let message =
                format!("{} ({}) is mounted read-only at {}", mount.source, mount.file_system, mount.mount_point);
            (StorageReason::NotWritable, message)
        }),
        judge_view(wanted, facts),
        judge_space(wanted, facts.space),
        facts.write_test.as_ref().map(|fault| {
            let reason = if fault.no_space { StorageReason::NoSpace } else { StorageReason::NotWritable };
            (reason, format!("a file cannot be written below {}: {}", wanted.root, fault.why))
        }),
        judge_directories(facts),
        (wanted.kubelet && matches!(facts.kubelet.view, KubeletView::NotFound | KubeletView::Unknown)).then(|| {
            let message =
                "the storage is as asked for, but no kubelet runs here, so that nobody knows what it will see";
            (StorageReason::KubeletNotFound, message.to_owned())
        }),
    ];
    let (reason, message) = faults.into_iter().flatten().next().unwrap_or_else(|| {
        let (kind, source, at) = (&mount.file_system, &mount.source, &mount.mount_point);
        let message = match wanted.local {
            true => format!("{} is there, on {kind} mounted at {at}", wanted.root),
            false => format!("{} lies on {source} ({kind}), mounted at {at}", wanted.root),
        };
        (StorageReason::StorageVerified, message)
    });
    (reason, shortened(&message))
}

fn judge_absent(wanted: &StorageWanted, root: &RootFact) -> Judged {
    let path = &wanted.root;
    let (reason, message) = match root {
        RootFact::Missing { leads_to, lies_on } => {
            let unmounted = lies_on.as_ref().and_then(|mount| acceptable(wanted, mount).err());
            match (leads_to, unmounted) {
                // A link into a mount that is not there leads nowhere.
                (Some(target), Some((_, why))) => {
                    (StorageReason::NotMounted, format!("{path} leads to {target}, which is not there: {why}"))
                }
                (Some(target), None) => {
                    (StorageReason::RootMissing, format!("{path} leads to {target}, which is not there"))
                }
                (None, _) => (StorageReason::RootMissing, format!("nothing is at {path}")),
            }
        }
        RootFact::NoDirectory => (StorageReason::RootMissing, format!("{path} is no directory")),
        RootFact::Unsafe { why } => (StorageReason::UnsafePath, format!("{path} cannot be followed: {why}")),
        RootFact::OtherLink { leads_to } => {
            let asked = wanted.link.as_ref().map_or("elsewhere", |link| link.as_str());
            let found = match leads_to {
                Some(target) => format!("leads to {target}"),
                None => "is no link".to_owned(),
            };
            (StorageReason::WrongLink, format!("{path} {found}, and should be a link to {asked}"))
        }
        RootFact::Failed { why } => (StorageReason::ProbeFailed, format!("{path} cannot be looked at: {why}")),
        RootFact::Found { .. } => (StorageReason::StorageVerified, String::new()),
    };
    (reason, shortened(&message))
}

fn judge_view(wanted: &StorageWanted, facts: &Facts) -> Option<Judged> {
    if !wanted.kubelet {
        return None;
    }
    let root = &wanted.root;
    let instead = facts.kubelet.instead.as_ref().map(|what| format!(" ({what})")).unwrap_or_default();
    match facts.kubelet.view {
        KubeletView::Missing => Some((
            StorageReason::KubeletBindMissing,
            format!("the kubelet sees nothing of {root}{instead}: it needs a bind, such as {root}:{root}:rslave"),
        )),
        KubeletView::Stale => Some((
            StorageReason::KubeletViewStale,
            format!(
                "the kubelet sees something else at {root}{instead}: it was started before the mount, and its bind does not propagate; it must be restarted"
            ),
        )),
        KubeletView::Same if facts.kubelet.read_only => {
            Some((StorageReason::NotWritable, format!("the kubelet sees {root} read-only: its bind must not say so")))
        }
        KubeletView::Same | KubeletView::NotFound | KubeletView::Unknown => None,
    }
}

fn judge_space(wanted: &StorageWanted, space: Option<Space>) -> Option<Judged> {
    let space = space?;
    let message = match wanted.min_free_bytes {
        _ if space.free == 0 => "the file system is full".to_owned(),
        _ if space.no_files => "the file system takes no further files".to_owned(),
        Some(least) if space.free < least => format!("less than {} is free", amount(least)),
        _ => return None,
    };
    Some((StorageReason::NoSpace, message))
}

fn judge_directories(facts: &Facts) -> Option<Judged> {
    let worst = facts.directories.values().map(|fault| fault.fault).min()?;
    let reason = match worst {
        Fault::Unsafe => StorageReason::UnsafePath,
        Fault::Missing => StorageReason::DirectoryMissing,
        Fault::Wrong => StorageReason::WrongDirectory,
    };
    let of_kind = || facts.directories.iter().filter(|(_, fault)| fault.fault == worst);
    let named: Vec<String> = of_kind().take(NAMED).map(|(path, fault)| format!("{path} {}", fault.why)).collect();
    let more = of_kind().count().saturating_sub(NAMED);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    Some((reason, format!("{}{rest}", named.join("; "))))
}

/// Bytes as people write them.
fn amount(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1024.0 && unit + 1 < units.len() {
        number /= 1024.0;
        unit += 1;
    }
    let digits = if number.fract() == 0.0 { 0 } else { 1 };
    format!("{number:.digits$} {}", units[unit])
}

fn shortened(message: &str) -> String {
    // What stands in a name must not break a line of a table or a log.
    let clean: String = message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if clean.len() <= LONGEST {
        return clean;
    }
    let end = clean.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST - 3).last().unwrap_or(0);
    format!("{}…", &clean[..end])
}

/// Free space in steps of a hundredth of the whole, downwards.
fn stepped(space: Space) -> u64 {
    let step = (space.total / 100).max(1);
    space.free / step * step
}

impl Look {
    /// The report of what was seen.
    pub fn report(&self, wanted: &StorageWanted, facts: &Facts) -> StorageReport {
        let mut report = self.without_facts(judge(wanted, facts));
        if let RootFact::Found { mount, .. } = &facts.root {
            report.mount = Some(mount.clone());
        }
        report.kubelet = facts.kubelet.view;
        report.free_bytes = facts.space.map(stepped);
        report.total_bytes = facts.space.map(|space| space.total);
        let faults = facts.directories.iter();
        report.directories = faults.map(|(path, fault)| (path.to_string(), shortened(&fault.why))).collect();
        report
    }

    /// The report where the file system did not answer in time; `mount` is what lies there by the list of mounts.
    pub fn timed_out(&self, wanted: &StorageWanted, mount: Option<MountFact>, limit: Duration) -> StorageReport {
        let on = mount.as_ref().map(|mount| format!(" ({}, {})", mount.source, mount.file_system)).unwrap_or_default();
        let message = format!("{}{on} does not answer within {} s", wanted.root, limit.as_secs());
        let judged = (StorageReason::ProbeTimeout, shortened(&message));
        StorageReport { mount, ..self.without_facts(judged) }
    }

    /// The report where the agent itself could not look.
    pub fn failed(&self, why: &str) -> StorageReport {
        self.without_facts((StorageReason::AgentFailed, shortened(why)))
    }

    fn without_facts(&self, (reason, message): Judged) -> StorageReport {
        StorageReport {
            observed_generation: self.generation,
            checked: self.checked,
            since: Some(self.checked),
            verdict: reason.verdict(),
            reason,
            message,
            boot_id: self.boot_id.clone(),
            agent: self.agent.clone(),
            mount: None,
            kubelet: KubeletView::Unknown,
            free_bytes: None,
            total_bytes: None,
            directories: std::collections::BTreeMap::new(),
        }
    }
}

/// A report that goes on from the one before it: what it comes to lasts as long as the verdict stays.
pub fn following(mut report: StorageReport, before: Option<&StorageReport>) -> StorageReport {
    if let Some(before) = before.filter(|before| before.verdict == report.verdict) {
        report.since = before.since.or(report.since);
    }
    report
}

/// Whether a report tells something that the one before it does not. The time alone is told with the next heartbeat, and
/// so is space: thousands of machines see the same file system fill up.
pub fn is_news(report: &StorageReport, before: &StorageReport) -> bool {
    let told = |report: &StorageReport| StorageReport {
        checked: Timestamp::UNIX_EPOCH,
        since: None,
        free_bytes: None,
        total_bytes: None,
        ..report.clone()
    };
    told(report) != told(before)
}

#[cfg(test)]
mod tests;
