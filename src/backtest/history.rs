//! Traces from what a cluster tells of itself: the records of its decisions, or its pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::trace::{Job, Trace, TraceGroup};
use crate::error::Failure;
use crate::model::work::PodLife;
use crate::rebalance::Input;

/// The resource that a trace counts.
const GPU: &str = "nvidia.com/gpu";

/// A trace that a cluster recorded, with what to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The groups and their jobs.
    pub trace: Trace,
    /// From when on everything was seen, in seconds from the begin of the trace.
    pub from: u32,
    /// Until when.
    pub until: u32,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A job as a trace file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// When it was submitted, in seconds from the first of them.
    pub submit: i64,
    /// How long it ran, in seconds.
    pub duration: i64,
    /// GPUs that it asked for.
    pub gpus: u32,
    /// Its group.
    pub group: String,
    /// What it is called.
    pub name: String,
}

/// What could not be said of jobs that pods tell of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Jobs that still run: their time so far counts.
    pub running: usize,
    /// Jobs that had not started, and are left out: nobody knows how long they will run.
    pub waiting: usize,
    /// Jobs that ended without saying when, and are left out.
    pub endless: usize,
}

/// The groups of a cluster that have GPU machines: how many people gave to each, and what such a machine has. Where they
/// differ it is the commonest size, and as many of it as make up the same number of GPUs.
pub fn groups_of(input: &Input) -> Vec<TraceGroup> {
    let Some(gpu) = input.resources.iter().position(|resource| &**resource == GPU) else { return Vec::new() };
    let mut sizes: BTreeMap<u32, BTreeMap<u64, u64>> = BTreeMap::new();
    for node in &input.nodes {
        let has = input.classes[node.class as usize].capacity[gpu];
        if let Some(group) = node.home.or(node.group).filter(|_| has > 0) {
            *sizes.entry(group).or_default().entry(has).or_default() += 1;
        }
    }
    let groups = sizes.into_iter().map(|(group, sizes)| {
        let commonest = sizes.iter().max_by_key(|(size, count)| (**count, **size)).map_or(1, |(size, _)| *size);
        let all: u64 = sizes.iter().map(|(size, count)| size * count).sum();
        TraceGroup {
            name: input.groups[group as usize].name.to_string(),
            nodes: all.div_ceil(commonest) as u32,
            size: commonest as u32,
        }
    });
    let mut groups: Vec<TraceGroup> = groups.collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups
}

/// The jobs that pods tell of: those of one gang are one job.
pub fn jobs_of_pods(
    pods: &[PodLife],
    group_of: impl Fn(&PodLife) -> Option<String>,
    now: Timestamp,
) -> (Vec<JobRow>, Unknown) {
    let mut gangs: BTreeMap<(String, String), Vec<&PodLife>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.pod.of_daemon_set && pod.gpus() > 0) {
        let Some(group) = group_of(pod) else { continue };
        let name = pod.pod.gang.clone().unwrap_or_else(|| format!("{}/{}", pod.pod.namespace, pod.pod.name));
        gangs.entry((group, name)).or_default().push(pod);
    }
    let (mut jobs, mut unknown) = (Vec::new(), Unknown::default());
    for ((group, name), pods) in gangs {
        let submitted = pods.iter().map(|pod| pod.submitted).min().unwrap_or(now);
        // A gang runs once its last pod does, and until its last pod ends.
        let Some(started) = pods.iter().map(|pod| pod.started).collect::<Option<Vec<_>>>() else {
            unknown.waiting += 1;
            continue;
        };
        let started = started.into_iter().max().unwrap_or(now);
        let ended = match pods.iter().any(|pod| !pod.is_over) {
            true => {
                unknown.running += 1;
                Some(now)
            }
            false => pods.iter().filter_map(|pod| pod.ended).max(),
        };
        let Some(ended) = ended else {
            unknown.endless += 1;
            continue;
        };
        jobs.push(JobRow {
            submit: submitted.as_second(),
            duration: (ended.as_second() - started.as_second()).max(0),
            gpus: pods.iter().map(|pod| pod.gpus()).sum::<u64>().try_into().unwrap_or(u32::MAX),
            group,
            name,
        });
    }
    let first = jobs.iter().map(|job| job.submit).min().unwrap_or(0);
    jobs.iter_mut().for_each(|job| job.submit -= first);
    jobs.sort_by(|a, b| (a.submit, &a.name).cmp(&(b.submit, &b.name)));
    (jobs, unknown)
}

/// Jobs as a file that a trace is read from; the names stand beside what is read.
pub fn jobs_csv(jobs: &[JobRow]) -> Result<String, Failure> {
    let row = |job: &JobRow| {
        [job.submit.to_string(), job.duration.to_string(), job.gpus.to_string(), job.group.clone(), job.name.clone()]
    };
    csv_text(&["submit_s", "duration_s", "gpus", "group", "job"], jobs.iter().map(row))
}

/// Groups as a file that a trace is read from.
pub fn groups_csv(groups: &[TraceGroup]) -> Result<String, Failure> {
    let row = |group: &TraceGroup| [group.name.clone(), group.nodes.to_string(), group.size.to_string()];
    csv_text(&["group", "nodes", "gpus_per_node"], groups.iter().map(row))
}

fn csv_text<const N: usize>(titles: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("cannot write CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(titles).map_err(|error| failed(&error))?;
    for row in rows {
        writer.write_record(&row).map_err(|error| failed(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// Pods that were seen running: alike, of one group, on one machine, since one moment.
type Runs = BTreeMap<(Arc<str>, Arc<str>, u64, i64), Vec<i64>>;

/// The trace that the inputs of decisions of one cluster tell. A job is known from the first record that shows it; what
/// began and ended between two records is not in it.
///
/// # Errors
/// Where they are of several clusters, or tell of no jobs.
pub fn recorded(mut inputs: Vec<Input>) -> Result<History, Failure> {
    inputs.sort_by_key(|input| input.time);
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        return Err(Failure::new("there are no records of decisions").hint("they lie below .drover/decisions/CLUSTER"));
    };
    if let Some(other) = inputs.iter().find(|input| input.cluster != first.cluster) {
        return Err(Failure::new(format!("the records are of clusters {} and {}", first.cluster, other.cluster))
            .hint("name the folder of one cluster, .drover/decisions/CLUSTER"));
    }
    if first.time == last.time {
        return Err(Failure::new("all records are of one moment, and a moment is no history")
            .hint("wait for more decisions, or write the jobs of the pods with `drover snapshot --jobs`"));
    }
    let groups = groups_of(first);
    let times: Vec<i64> = inputs.iter().map(|input| input.time).collect();
    let mut runs = Runs::new();
    let mut waits: HashMap<Arc<str>, Wait> = HashMap::new();
    for input in &inputs {
        see(input, &mut runs, &mut waits);
    }
    let mut jobs = Vec::new();
    let (mut cut, mut foreign) = (0, 0);
    for (submit, began, seen, gpus, group) in joined(runs, waits.into_values().collect()) {
        let Ok(index) = groups.binary_search_by(|known| known.name.as_str().cmp(&group)) else {
            foreign += 1;
            continue;
        };
        // It ended at some moment between the last record that shows it and the next one.
        let next = times.iter().find(|time| **time > seen);
        cut += usize::from(next.is_none());
        let end = next.map_or(seen, |next| seen + (next - seen) / 2);
        let gpus = u32::try_from(gpus).unwrap_or(u32::MAX);
        jobs.push(Job { submit, duration: (end - began).max(0), gpus, group: index as u32 });
    }
    if jobs.is_empty() {
        return Err(Failure::new("the records tell of no jobs with GPUs in groups that have GPU machines"));
    }
    let begin = jobs.iter().map(|job| job.submit).min().unwrap_or(0);
    jobs.iter_mut().for_each(|job| job.submit -= begin);
    jobs.sort_by_key(|job| (job.submit, job.group, job.gpus, job.duration));
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let mut notes = vec![format!(
        "{} records over {:.1} hours, at most {:.1} hours apart; jobs that began and ended between two of them are missing",
        times.len(),
        (last.time - first.time) as f64 / 3600.0,
        widest as f64 / 3600.0
    )];
    notes.extend(
        (cut > 0).then(|| format!("still running at the last record, so that their time so far counts: {cut}")),
    );
    notes.extend((foreign > 0).then(|| format!("left out, as their group has no GPU machines: {foreign}")));
    let from_begin = |time: i64| u32::try_from((time - begin).max(0)).unwrap_or(u32::MAX);
    let (from, until) = (from_begin(first.time), from_begin(last.time));
    Ok(History { trace: Trace { groups, jobs, without_gpus: 0 }, from, until, notes })
}

/// Work that was seen waiting.
struct Wait {
    group: Arc<str>,
    gpus: u64,
    pods: u32,
    since: i64,
}

/// Notes what a record shows.
fn see(input: &Input, runs: &mut Runs, waits: &mut HashMap<Arc<str>, Wait>) {
    let Some(gpu) = input.resources.iter().position(|resource| &**resource == GPU) else { return };
    let asks = |shape: u32| input.shapes[shape as usize].requests[gpu];
    let name = |group: u32| input.groups[group as usize].name.clone();
    for running in input.running.iter().filter(|running| asks(running.shape) > 0) {
        let Some(group) = running.group else { continue };
        let node = input.nodes[running.node as usize].name.clone();
        let seen = runs.entry((name(group), node, asks(running.shape), running.since)).or_default();
        seen.resize(seen.len().max(running.pods as usize), input.time);
        // Where fewer are left, the others have ended.
        seen.iter_mut().take(running.pods as usize).for_each(|last| *last = input.time);
    }
    for waiting in input.waiting.iter().filter(|waiting| asks(waiting.shape) > 0) {
        let (group, gpus, pods) = (name(waiting.group), asks(waiting.shape), waiting.pods);
        waits.insert(waiting.name.clone(), Wait { group, gpus, pods, since: waiting.since });
    }
}

/// Jobs as (submitted, began, last seen, GPUs, group). What waited is joined with the first pods alike that began after it
/// did; other pods are jobs of their own, which did not wait.
fn joined(runs: Runs, mut waits: Vec<Wait>) -> Vec<(i64, i64, i64, u64, String)> {
    type Spans = Vec<(i64, i64)>;
    let mut alike: BTreeMap<(Arc<str>, u64), Spans> = BTreeMap::new();
    for ((group, _, gpus, began), seen) in runs {
        alike.entry((group, gpus)).or_default().extend(seen.into_iter().map(|last| (began, last)));
    }
    alike.values_mut().for_each(|pods| pods.sort_unstable());
    waits.sort_by(|a, b| (a.since, &a.group, a.gpus, a.pods).cmp(&(b.since, &b.group, b.gpus, b.pods)));
    let mut jobs = Vec::new();
    for wait in waits {
        let Some(pods) = alike.get_mut(&(wait.group.clone(), wait.gpus)) else { continue };
        let first = pods.partition_point(|(began, _)| *began < wait.since);
        let last = first + wait.pods as usize;
        if last > pods.len() {
            continue; // it never ran, as far as the records show
        }
        let own: Vec<(i64, i64)> = pods.drain(first..last).collect();
        let began = own.iter().map(|(began, _)| *began).max().unwrap_or(wait.since);
        let seen = own.iter().map(|(_, seen)| *seen).max().unwrap_or(began);
        jobs.push((wait.since, began, seen, wait.gpus * u64::from(wait.pods), wait.group.to_string()));
    }
    for ((group, gpus), pods) in alike {
        jobs.extend(pods.into_iter().map(|(began, seen)| (began, began, seen, gpus, group.to_string())));
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rebalance::{Class, Group, Node, Running, Shape, Waiting};

    fn input(time: i64) -> Input {
        let node = |name: &str, class, group| Node { name: name.into(), class, group: Some(group), ..Node::default() };
        let class = |gpus| Class { capacity: vec![64_000, gpus], ..Class::default() };
        Input {
            cluster: "prod".into(),
            time,
            resources: vec!["cpu".into(), GPU.into()],
            groups: ["web", "ads"].map(|name| Group { name: name.into(), ..Group::default() }).to_vec(),
            classes: vec![class(0), class(8), class(4)],
            shapes: [0, 8, 2].map(|gpus| Shape { requests: vec![1, gpus], ..Shape::default() }).to_vec(),
            nodes: vec![node("c", 0, 0), node("a", 1, 0), node("b", 1, 0), node("d", 2, 0), node("e", 1, 1)],
            ..Input::default()
        }
    }

    fn running(node: u32, group: u32, shape: u32, pods: u32, since: i64) -> Running {
        Running { node, group: Some(group), shape, pods, since }
    }

    fn job(submit: i64, duration: i64, gpus: u32, group: u32) -> Job {
        Job { submit, duration, gpus, group }
    }

    #[test]
    fn groups_have_the_machines_that_people_gave_them() {
        let mut input = input(0);
        input.nodes[4].home = Some(0);
        let groups = groups_of(&input);
        // 8 + 8 + 4 + 8 GPUs, as machines of eight.
        assert_eq!(groups, [TraceGroup { name: "web".into(), nodes: 4, size: 8 }]);
    }

    #[test]
    fn records_one_after_the_other_tell_when_jobs_came_began_and_ended() {
        let waits = |pods| Waiting { name: "jobs/gang".into(), group: 0, shape: 1, pods, since: 900, otherwise: false };
        let (mut first, mut second, mut third) = (input(1000), input(1100), input(1300));
        // Two pods of 2 GPUs run from before the first record on; one of them ends before the second.
        first.running = vec![running(4, 1, 2, 2, 500), running(0, 0, 0, 1, 1)];
        second.running = vec![running(4, 1, 2, 1, 500), running(1, 0, 1, 1, 1050), running(2, 0, 1, 1, 1060)];
        third.running = vec![running(4, 1, 2, 1, 500)];
        first.waiting = vec![waits(2)];
        let history = recorded(vec![third, first, second]).expect("a history");
        let names: Vec<&str> = history.trace.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["ads", "web"]);
        // Times from the first job, which came at 500. The gang ends half way between the second and the third record.
        assert_eq!(history.trace.jobs, [job(0, 550, 2, 0), job(0, 800, 2, 0), job(400, 1200 - 1060, 16, 1)]);
        assert_eq!((history.from, history.until), (500, 800));
        assert!(history.notes[1].ends_with("so far counts: 1"), "{:?}", history.notes);
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let other = Input { cluster: "dev".into(), ..input(2) };
        for (inputs, says) in [
            (vec![], "no records"),
            (vec![input(1), other], "clusters prod and dev"),
            (vec![input(1), input(1)], "one moment"),
            (vec![input(1), input(2)], "no jobs"),
        ] {
            let failure = recorded(inputs).expect_err(says);
            assert!(failure.to_string().contains(says), "{failure}");
        }
    }
}
