//! From a live cluster to the input of a decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use jiff::Timestamp;

use super::input::{
    Bar, Barred, Class, Group, INPUT_VERSION, Input, LastMove, Node, PastMove, Running, Shape, Waiting,
};
use super::rules::Rules;
use crate::model::selector::{NodeSelection, Operator, Requirement, Term};
use crate::model::work::{Wait, why_it_waits};
use crate::model::{ClusterName, Desired, DesiredCluster, GroupName, ObservedCluster, ObservedNode, PodWork, Taint};

/// What a decision is made from.
#[derive(Clone, Copy)]
pub struct Scene<'s> {
    /// The cluster.
    pub name: &'s ClusterName,
    /// What state asks for there.
    pub cluster: &'s DesiredCluster,
    /// The whole state.
    pub desired: &'s Desired,
    /// Its live nodes.
    pub live: &'s ObservedCluster,
    /// Its pods that run or wait.
    pub pods: &'s [PodWork],
    /// What was decided before.
    pub past: &'s Past,
    /// Now.
    pub now: Timestamp,
}

/// What the history of the state says of earlier decisions for a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// The rebalancer's moves, the oldest first.
    pub moves: Vec<Moved>,
    /// Machines that a person took back from the rebalancer, and until when it leaves them alone.
    pub vetoes: BTreeMap<String, Timestamp>,
}

/// A move that the rebalancer made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The machine.
    pub node: String,
    /// The group that it left.
    pub from: String,
    /// The group that it went to.
    pub to: String,
    /// When.
    pub at: Timestamp,
}

/// Everything that a decision depends on.
pub fn input(scene: Scene<'_>) -> Input {
    let asked = scene.cluster.spec.rebalance.clone().unwrap_or_default();
    let mut resources: Vec<Arc<str>> = ["cpu", "memory", "nvidia.com/gpu"].map(Arc::from).to_vec();
    for extended in &asked.resources {
        if !resources.iter().any(|known| **known == *extended.as_str()) {
            resources.push(extended.as_str().into());
        }
    }
    let groups = Groups::of(&scene);
    let counts = |namespace: &str| asked.namespaces.is_empty() || asked.namespaces.iter().any(|name| name == namespace);
    let mut shapes = Shapes::new(&scene, &resources);
    let selected = keys_selected_by(scene.pods, scene.desired.vocabulary.group().as_str());
    let (classes, nodes) = machines(&scene, &groups, &resources, &selected);
    let indices: HashMap<&str, u32> = nodes.iter().zip(0..).map(|(node, index)| (&*node.name, index)).collect();

    let mut running: BTreeMap<(u32, Option<u32>, u32, i64), u32> = BTreeMap::new();
    let mut waiting = Queue::default();
    for pod in scene.pods {
        let group = groups.of_pod(pod).filter(|_| !pod.of_daemon_set);
        match (&pod.node, group) {
            (Some(node), group) => {
                let Some(node) = indices.get(node.as_str()) else { continue };
                *running.entry((*node, group, shapes.index(pod), pod.since.as_second())).or_default() += 1;
            }
            // What runs counts wherever it comes from: it holds its machine.
            (None, Some(group)) if counts(&pod.namespace) => waiting.add(pod, group, shapes.index(pod)),
            (None, _) => {}
        }
    }
    let running =
        running.into_iter().map(|((node, group, shape, since), pods)| Running { node, group, shape, pods, since });
    let day_ago = scene.now.as_second() - 86_400;
    let moves = scene.past.moves.iter().filter(|moved| moved.at.as_second() > day_ago);
    let moves =
        moves.filter_map(|m| Some(PastMove { at: m.at.as_second(), node: *indices.get(m.node.as_str())? })).collect();
    let (groups, shapes) = (groups.list, shapes.list.known);
    let mut input = Input {
        version: INPUT_VERSION.to_owned(),
        cluster: scene.name.to_string(),
        time: scene.now.as_second(),
        rules: Rules::from(&asked),
        moves,
        resources,
        groups,
        classes,
        shapes,
        running: running.collect(),
        waiting: Vec::new(),
        nodes,
    };
    input.waiting = waiting.judged(&input);
    input
}

/// Work that waits, gangs together.
#[derive(Default)]
struct Queue<'p> {
    works: Vec<(Waiting, Vec<&'p PodWork>)>,
    gangs: HashMap<(&'p str, u32, u32), usize>,
}

impl<'p> Queue<'p> {
    /// A gang waits since its first pod does.
    fn add(&mut self, pod: &'p PodWork, group: u32, shape: u32) {
        let since = pod.since.as_second();
        if let Some(gang) = &pod.gang {
            if let Some(&index) = self.gangs.get(&(gang.as_str(), group, shape)) {
                let (work, pods) = &mut self.works[index];
                work.pods += 1;
                work.since = work.since.min(since);
                pods.push(pod);
                return;
            }
            self.gangs.insert((gang, group, shape), self.works.len());
        }
        let name = pod.gang.clone().unwrap_or_else(|| format!("{}/{}", pod.namespace, pod.name));
        let work = Waiting { name: name.into(), group, shape, pods: 1, since, otherwise: false };
        self.works.push((work, vec![pod]));
    }

    /// The work, the oldest first. A gang waits for something other than resources as soon as one of its pods does.
    fn judged(self, input: &Input) -> Vec<Waiting> {
        let mut homes: HashMap<(u32, u32), bool> = HashMap::new();
        let mut has_home = |group: u32, shape: u32| {
            *homes.entry((group, shape)).or_insert_with(|| {
                input.nodes.iter().any(|node| node.group == Some(group) && may_be_on(input, shape, node))
            })
        };
        let mut judged: Vec<Waiting> = Vec::with_capacity(self.works.len());
        for (mut work, pods) in self.works {
            let waits = |pod: &&PodWork| pod.says.as_deref().map_or(Wait::Resources, why_it_waits);
            work.otherwise = pods.iter().map(waits).any(|wait| match wait {
                Wait::Resources => false,
                // Where its group has no machine of the kind, another one is what helps.
                Wait::NoMatch => has_home(work.group, work.shape),
                Wait::Otherwise => true,
            });
            judged.push(work);
        }
        judged.sort_by(|a, b| (a.since, &a.name, a.shape).cmp(&(b.since, &b.name, b.shape)));
        judged
    }
}

/// Whether a shape may be on a machine at all, were it in the right group: labels, taints and size.
fn may_be_on(input: &Input, shape: u32, node: &Node) -> bool {
    let (shape, class) = (&input.shapes[shape as usize], &input.classes[node.class as usize]);
    class.taints.iter().all(|taint| shape.tolerates.contains(taint))
        && shape.selection.matches(&node.name, &class.labels)
        && class.capacity.iter().zip(&shape.requests).all(|(has, wants)| has >= wants)
}

/// Values that are alike, each once.
struct Table<T> {
    known: Vec<T>,
    indices: HashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { known: Vec::new(), indices: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn index(&mut self, value: T) -> u32 {
        if let Some(index) = self.indices.get(&value) {
            return *index;
        }
        let index = self.known.len() as u32;
        self.known.push(value.clone());
        self.indices.insert(value, index);
        index
    }
}

/// The groups of the state, and how a label or a pod names one.
struct Groups<'s> {
    list: Vec<Group>,
    by_org: HashMap<&'s str, u32>,
    by_name: HashMap<&'s GroupName, u32>,
    key: &'s str,
}

impl<'s> Groups<'s> {
    fn of(scene: &Scene<'s>) -> Self {
        let groups = &scene.desired.groups;
        let list = groups.iter().map(|(name, group)| Group {
            name: name.as_str().into(),
            guarantee: group.spec.guarantee.get(scene.name).copied().unwrap_or_default(),
            ceiling: group.spec.ceiling.get(scene.name).copied().unwrap_or_default(),
            weight: group.spec.weight.map_or(1, |weight| weight.get()),
        });
        Self {
            list: list.collect(),
            by_org: groups.values().zip(0..).map(|(group, index)| (group.org.as_str(), index)).collect(),
            by_name: groups.keys().zip(0..).collect(),
            key: scene.desired.vocabulary.group().as_str(),
        }
    }

    /// The group that a pod asks for.
    fn of_pod(&self, pod: &PodWork) -> Option<u32> {
        self.by_org.get(org_of(pod, self.key)?.as_str()).copied()
    }
}

/// Tells of a pod which group it asks for.
pub fn owner<'d>(desired: &'d Desired) -> impl Fn(&PodWork) -> Option<&'d GroupName> {
    let key = desired.vocabulary.group().as_str();
    let by_org: HashMap<&str, &GroupName> =
        desired.groups.iter().map(|(name, group)| (group.org.as_str(), name)).collect();
    move |pod| by_org.get(org_of(pod, key)?.as_str()).copied()
}

/// The only value of the group label that a pod's selection allows.
fn org_of(pod: &PodWork, key: &str) -> Option<String> {
    let is_one = |requirement: &&Requirement| {
        requirement.key == key && requirement.operator == Operator::In && requirement.values.len() == 1
    };
    let of_term = |term: &Term| term.labels.iter().find(is_one).map(|requirement| requirement.values[0].clone());
    let by_terms = || {
        let mut orgs = pod.selection.terms.iter().flatten().map(of_term).collect::<BTreeSet<_>>().into_iter();
        orgs.next().flatten().filter(|_| orgs.next().is_none())
    };
    pod.selection.labels.get(key).cloned().or_else(by_terms)
}

/// The labels that some pod selects by, but for the group's.
fn keys_selected_by(pods: &[PodWork], group: &str) -> BTreeSet<String> {
    let of_term = |term: &Term| term.labels.iter().map(|requirement| requirement.key.clone()).collect::<Vec<_>>();
    let keys = pods.iter().flat_map(|pod| {
        let terms = pod.selection.terms.iter().flatten().flat_map(of_term);
        pod.selection.labels.keys().cloned().chain(terms).collect::<Vec<_>>()
    });
    keys.filter(|key| key != group).collect()
}

fn machines(
    scene: &Scene<'_>,
    groups: &Groups<'_>,
    resources: &[Arc<str>],
    selected: &BTreeSet<String>,
) -> (Vec<Class>, Vec<Node>) {
    let (mut classes, mut nodes) = (Table::default(), Vec::new());
    let asked = scene.cluster.spec.rebalance.as_ref();
    let eligible = asked.map(|asked| &asked.eligible).into_iter().flatten().collect::<Vec<_>>();
    for (name, document) in &scene.cluster.nodes {
        // Without its machine a document offers nothing, and nothing can be moved.
        let Some(live) = scene.live.nodes.get(name.as_str()) else { continue };
        let group = document.group.as_ref().and_then(|group| groups.by_name.get(group)).copied();
        nodes.push(Node {
            name: name.as_str().into(),
            class: classes.index(class_of(live, resources, selected)),
            group,
            home: home(scene.past, groups, name.as_str()).filter(|home| Some(*home) != group),
            shareable: document.document.spec.shareable,
            ineligible: !eligible
                .iter()
                .all(|(key, value)| document.label(key.as_str()).is_some_and(|label| label.value == **value)),
            barred: barred(scene, groups, live, name.as_str(), group),
            last: last_move(scene.past, groups, name.as_str()),
        });
    }
    (classes.known, nodes)
}

fn class_of(live: &ObservedNode, resources: &[Arc<str>], selected: &BTreeSet<String>) -> Class {
    let labels = live.labels.iter().filter(|(key, _)| selected.contains(*key));
    Class {
        capacity: amounts(resources, &live.offers),
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        taints: taints_of(live).iter().map(|taint| taint.to_string().into()).collect(),
    }
}

/// Amounts in the order of the resources. People can ask for anything: beyond what any machine has it is all the same, and
/// sums must fit.
fn amounts(resources: &[Arc<str>], of: &BTreeMap<String, u64>) -> Vec<u64> {
    const MOST: u64 = 1 << 46;
    resources.iter().map(|resource| of.get(&**resource).copied().unwrap_or(0).min(MOST)).collect()
}

/// The taints of a node. A cordoned one has one more, also where a dump does not show it.
fn taints_of(live: &ObservedNode) -> BTreeSet<Taint> {
    live.taints.iter().cloned().chain(live.unschedulable.then(Taint::cordoned)).collect()
}

/// The group that people gave a machine to: where the rebalancer's unbroken chain of moves began.
fn home(past: &Past, groups: &Groups<'_>, node: &str) -> Option<u32> {
    let mut home: Option<&str> = None;
    for moved in past.moves.iter().rev().filter(|moved| moved.node == node) {
        if home.is_some_and(|later| later != moved.to) {
            break; // a person moved it in between
        }
        home = Some(&moved.from);
    }
    groups.by_name.iter().find(|(name, _)| Some(name.as_str()) == home).map(|(_, index)| *index)
}

fn last_move(past: &Past, groups: &Groups<'_>, node: &str) -> Option<LastMove> {
    let moved = past.moves.iter().rev().find(|moved| moved.node == node)?;
    let from = groups.by_name.iter().find(|(name, _)| name.as_str() == moved.from)?;
    Some(LastMove { from: *from.1, at: moved.at.as_second() })
}

fn barred(
    scene: &Scene<'_>,
    groups: &Groups<'_>,
    live: &ObservedNode,
    name: &str,
    group: Option<u32>,
) -> Option<Barred> {
    let document = scene.cluster.nodes.get(name)?;
    let held = document.hold.as_ref().map(|hold| hold.until.moment()).filter(|until| *until > scene.now);
    let vetoed = scene.past.vetoes.get(name).copied().filter(|until| *until > scene.now);
    let until = |moment: Timestamp| Some(moment.as_second());
    let lives_in = live.labels.get(groups.key).and_then(|org| groups.by_org.get(org.as_str())).copied();
    if let Some(held) = held {
        return Some(Barred { by: Bar::Held, until: until(held) });
    }
    if let Some(vetoed) = vetoed {
        return Some(Barred { by: Bar::Vetoed, until: until(vetoed) });
    }
    let by = match () {
        () if live.unschedulable => Bar::Cordoned,
        () if live.ready == Some(false) => Bar::Unready,
        // What state asks for is not true yet: its pods and its group do not belong together.
        () if lives_in != group => Bar::Moving,
        () => return None,
    };
    Some(Barred { by, until: None })
}

/// What pods ask for, each once.
struct Shapes<'s> {
    list: Table<Shape>,
    resources: &'s [Arc<str>],
    taints: BTreeSet<Taint>,
    group: &'s str,
}

impl<'s> Shapes<'s> {
    fn new(scene: &Scene<'s>, resources: &'s [Arc<str>]) -> Self {
        let managed = scene.live.nodes.values().filter(|node| scene.cluster.nodes.contains_key(node.name.as_str()));
        Self {
            list: Table::default(),
            resources,
            taints: managed.flat_map(taints_of).collect(),
            group: scene.desired.vocabulary.group().as_str(),
        }
    }

    fn index(&mut self, pod: &PodWork) -> u32 {
        let tolerated = self.taints.iter().filter(|taint| pod.tolerations.iter().any(|own| own.covers(taint)));
        self.list.index(Shape {
            requests: amounts(self.resources, &pod.requests),
            selection: without(&pod.selection, self.group),
            tolerates: tolerated.map(|taint| taint.to_string().into()).collect(),
        })
    }
}

/// A selection but for what it says of one label.
fn without(selection: &NodeSelection, key: &str) -> NodeSelection {
    let term = |term: &Term| Term {
        labels: term.labels.iter().filter(|requirement| requirement.key != key).cloned().collect(),
        fields: term.fields.clone(),
    };
    let mut terms = selection.terms.as_ref().map(|terms| terms.iter().map(term).collect::<Vec<_>>());
    // A term that said nothing else is fulfilled by any machine, and with it the whole affinity.
    if terms.iter().flatten().any(|term| term.labels.is_empty() && term.fields.is_empty()) {
        terms = None;
    }
    let labels = selection.labels.iter().filter(|(own, _)| *own != key);
    NodeSelection { labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(), terms }
}
