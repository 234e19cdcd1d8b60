//! The working picture of a decision: what is free where, what groups effectively have, and what would start next.

use super::input::{Input, Waiting};

/// The resource that guarantees call GPUs.
const GPU: &str = "nvidia.com/gpu";
/// Whole machines are counted in millionths, so that parts of them add up exactly enough.
pub(super) const WHOLE: u64 = 1_000_000;

/// A sum of machines: how many, and what they offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Holding {
    /// Machines, in millionths.
    pub(super) nodes: u64,
    /// Thousandths of a core.
    pub(super) cpu: u64,
    /// GPUs.
    pub(super) gpus: u64,
}

impl std::ops::AddAssign for Holding {
    fn add_assign(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.cpu += other.cpu;
        self.gpus += other.gpus;
    }
}

impl std::ops::SubAssign for Holding {
    fn sub_assign(&mut self, other: Self) {
        self.nodes -= other.nodes;
        self.cpu -= other.cpu;
        self.gpus -= other.gpus;
    }
}

/// Pods of one group on one machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) group: Option<u32>,
    pub(super) shape: u32,
    pub(super) pods: u32,
}

/// The working picture. Moves and starts that a decision foresees change it; the input stays as it is.
#[derive(Debug)]
pub(super) struct World<'i> {
    pub(super) input: &'i Input,
    width: usize,
    cpu: Option<usize>,
    gpu: Option<usize>,
    /// Which resources are accelerators, so that machines that have one count as GPU machines.
    accelerators: Vec<bool>,
    /// Whether a shape may be on a class, by shape and class; none where it depends on the machine's name.
    fits: Vec<Option<bool>>,
    free: Vec<u64>,
    pub(super) group: Vec<Option<u32>>,
    pub(super) loads: Vec<Vec<Load>>,
    pub(super) members: Vec<Vec<u32>>,
    /// What each group has by label.
    pub(super) labelled: Vec<Holding>,
    /// What each group has but for what other groups' pods hold.
    pub(super) effective: Vec<Holding>,
    /// How many machines people gave to each group.
    pub(super) home: Vec<u32>,
    /// The work that waits, as indices into the input, by group.
    pub(super) queues: Vec<Vec<u32>>,
    /// Machines moved in this decision.
    pub(super) moved: Vec<bool>,
}

impl<'i> World<'i> {
    pub(super) fn new(input: &'i Input) -> Self {
        let width = input.resources.len();
        let index = |name: &str| input.resources.iter().position(|resource| &**resource == name);
        let accelerators = input.resources.iter().map(|resource| is_accelerator(resource)).collect();
        let groups = input.groups.len();
        let mut world = Self {
            input,
            width,
            cpu: index("cpu"),
            gpu: index(GPU),
            accelerators,
            fits: fitness(input),
            free: input.nodes.iter().flat_map(|node| &input.classes[node.class as usize].capacity).copied().collect(),
            group: input.nodes.iter().map(|node| node.group).collect(),
            loads: vec![Vec::new(); input.nodes.len()],
            members: vec![Vec::new(); groups],
            labelled: vec![Holding::default(); groups],
            effective: vec![Holding::default(); groups],
            home: vec![0; groups],
            queues: vec![Vec::new(); groups],
            moved: vec![false; input.nodes.len()],
        };
        for running in &input.running {
            let load = Load { group: running.group, shape: running.shape, pods: running.pods };
            world.occupy(running.node, load);
        }
        for (index, node) in (0..).zip(&input.nodes) {
            if let Some(home) = node.home.or(node.group) {
                world.home[home as usize] += 1;
            }
            if let Some(group) = node.group {
                world.members[group as usize].push(index);
                let (whole, worth) = (world.whole(index), world.worth(index, group));
                world.labelled[group as usize] += whole;
                world.effective[group as usize] += worth;
            }
        }
        for (index, waiting) in (0..).zip(&input.waiting) {
            if !waiting.otherwise {
                world.queues[waiting.group as usize].push(index);
            }
        }
        world
    }

    /// What a machine offers.
    pub(super) fn capacity(&self, node: u32) -> &'i [u64] {
        &self.input.classes[self.input.nodes[node as usize].class as usize].capacity
    }

    /// What no pod holds of a machine.
    pub(super) fn free(&self, node: u32) -> &[u64] {
        let start = node as usize * self.width;
        &self.free[start..start + self.width]
    }

    /// What a shape asks for.
    pub(super) fn requests(&self, shape: u32) -> &'i [u64] {
        &self.input.shapes[shape as usize].requests
    }

    pub(super) fn waiting(&self, index: u32) -> &'i Waiting {
        &self.input.waiting[index as usize]
    }

    /// Whether a machine has accelerators.
    pub(super) fn has_gpus(&self, node: u32) -> bool {
        self.asks_for_gpus(self.capacity(node))
    }

    /// Whether amounts hold any accelerator.
    pub(super) fn asks_for_gpus(&self, amounts: &[u64]) -> bool {
        amounts.iter().zip(&self.accelerators).any(|(&amount, &accelerator)| accelerator && amount > 0)
    }

    /// The resource that matters most on machines with or without accelerators.
    fn counts(&self, resource: usize, gpus: bool) -> bool {
        self.accelerators[resource] == gpus
    }

    /// The share of a machine that amounts take, in millionths: of its scarcest accelerator, or of its scarcest
    /// other resource where it has none.
    pub(super) fn share(&self, amounts: &[u64], node: u32) -> u64 {
        let (capacity, gpus) = (self.capacity(node), self.has_gpus(node));
        let shares = (0..self.width).filter(|&at| self.counts(at, gpus) && capacity[at] > 0);
        shares
            .map(|at| (amounts[at].min(capacity[at]) as u128 * u128::from(WHOLE) / capacity[at] as u128) as u64)
            .max()
            .unwrap_or(0)
    }

    /// Whether no pod of any group runs on a machine.
    pub(super) fn idle(&self, node: u32) -> bool {
        self.loads[node as usize].iter().all(|load| load.group.is_none())
    }

    /// Whether a shape may be on a machine at all: labels, taints, and size.
    pub(super) fn may(&self, shape: u32, node: u32) -> bool {
        self.selects(shape, node) && covers(self.capacity(node), self.requests(shape))
    }

    /// Whether labels and taints let a shape onto a machine.
    pub(super) fn selects(&self, shape: u32, node: u32) -> bool {
        let known = &self.input.nodes[node as usize];
        self.fits[shape as usize * self.input.classes.len() + known.class as usize].unwrap_or_else(|| {
            let shape = &self.input.shapes[shape as usize];
            shape.selection.matches(&known.name, &self.input.classes[known.class as usize].labels)
        })
    }

    /// Whether a pod of a shape could start on a machine now, were it in the right group.
    pub(super) fn fits(&self, shape: u32, node: u32) -> bool {
        covers(self.free(node), self.requests(shape)) && self.selects(shape, node)
    }

    /// How many pods of a shape could start on a machine now, at most `most`.
    pub(super) fn room(&self, shape: u32, node: u32, most: u32) -> u32 {
        if !self.fits(shape, node) {
            return 0;
        }
        let (free, requests) = (self.free(node), self.requests(shape));
        let times = free.iter().zip(requests).filter(|&(_, &wants)| wants > 0).map(|(have, wants)| have / wants).min();
        times.unwrap_or(u64::MAX).min(most.into()) as u32
    }

    /// A machine as a group has it by label.
    pub(super) fn whole(&self, node: u32) -> Holding {
        let amount = |at: Option<usize>| at.map_or(0, |at| self.capacity(node)[at]);
        Holding { nodes: WHOLE, cpu: amount(self.cpu), gpus: amount(self.gpu) }
    }

    /// A machine as a group has it: without what pods of other groups hold there.
    pub(super) fn worth(&self, node: u32, group: u32) -> Holding {
        let mut foreign = vec![0; self.width];
        for load in self.loads[node as usize].iter().filter(|load| load.group.is_some_and(|owner| owner != group)) {
            for (sum, request) in foreign.iter_mut().zip(self.requests(load.shape)) {
                *sum = u64::saturating_add(*sum, request.saturating_mul(load.pods.into()));
            }
        }
        let whole = self.whole(node);
        let amount = |at: Option<usize>| at.map_or(0, |at| foreign[at]);
        Holding {
            nodes: WHOLE - self.share(&foreign, node),
            cpu: whole.cpu.saturating_sub(amount(self.cpu)),
            gpus: whole.gpus.saturating_sub(amount(self.gpu)),
        }
    }

    /// What pods of a group hold of a machine, in millionths.
    pub(super) fn held(&self, node: u32, group: u32) -> u64 {
        let loads = self.loads[node as usize].iter().filter(|load| load.group == Some(group));
        loads.map(|load| self.share(self.requests(load.shape), node) * u64::from(load.pods)).sum()
    }

    /// Puts pods on a machine.
    fn occupy(&mut self, node: u32, load: Load) {
        let requests = &self.input.shapes[load.shape as usize].requests;
        let start = node as usize * self.width;
        for (free, request) in self.free[start..start + self.width].iter_mut().zip(requests) {
            *free = free.saturating_sub(request.saturating_mul(load.pods.into()));
        }
        self.loads[node as usize].push(load);
    }

    /// Gives a machine to a group; its pods stay.
    pub(super) fn relabel(&mut self, node: u32, to: u32) {
        if let Some(from) = self.group[node as usize] {
            let (whole, worth) = (self.whole(node), self.worth(node, from));
            self.labelled[from as usize] -= whole;
            self.effective[from as usize] -= worth;
            self.members[from as usize].retain(|&member| member != node);
        }
        let (whole, worth) = (self.whole(node), self.worth(node, to));
        self.labelled[to as usize] += whole;
        self.effective[to as usize] += worth;
        self.members[to as usize].push(node);
        self.group[node as usize] = Some(to);
        self.moved[node as usize] = true;
    }

    /// Where the pods of a piece of work would go among some machines, or none where not all of them fit: each pod to
    /// the machine that it fills best.
    pub(super) fn placement(&self, work: u32, among: &[u32]) -> Option<Vec<(u32, u32)>> {
        let work = self.waiting(work);
        if work.pods == 1 {
            let fits = among.iter().copied().filter(|&node| self.fits(work.shape, node));
            return fits.min_by_key(|&node| self.slack(node)).map(|node| vec![(node, 1)]);
        }
        let mut left = work.pods;
        let mut found = Vec::new();
        for &node in among {
            let room = self.room(work.shape, node, left);
            if room > 0 {
                found.push((node, room));
                left -= room;
            }
            if left == 0 {
                return Some(found);
            }
        }
        None
    }

    /// How much of a machine is free, in millionths.
    pub(super) fn slack(&self, node: u32) -> u64 {
        self.share(self.free(node), node)
    }

    /// Starts what the scheduler will start on a group's machines; says which work.
    pub(super) fn settle(&mut self, group: u32) -> Vec<u32> {
        let mut started = Vec::new();
        let mut index = 0;
        while let Some(&work) = self.queues[group as usize].get(index) {
            match self.placement(work, &self.members[group as usize]) {
                Some(places) => {
                    self.queues[group as usize].remove(index);
                    self.start(work, &places);
                    started.push(work);
                }
                None if self.input.rules.in_order => break,
                None => index += 1,
            }
        }
        started
    }

    fn start(&mut self, work: u32, places: &[(u32, u32)]) {
        let work = self.waiting(work);
        for &(node, pods) in places {
            self.occupy(node, Load { group: Some(work.group), shape: work.shape, pods });
        }
    }
}

/// Whether every amount is there.
fn covers(have: &[u64], want: &[u64]) -> bool {
    have.iter().zip(want).all(|(have, want)| have >= want)
}

/// Resources that every machine has are no accelerators; what a policy names beside them is.
fn is_accelerator(resource: &str) -> bool {
    !matches!(resource, "cpu" | "memory" | "ephemeral-storage" | "pods") && !resource.starts_with("hugepages-")
}

/// Whether shapes may be on classes, by labels and taints.
fn fitness(input: &Input) -> Vec<Option<bool>> {
    let mut fits = Vec::with_capacity(input.shapes.len() * input.classes.len());
    for shape in &input.shapes {
        let terms = shape.selection.terms.as_deref().unwrap_or_default();
        let by_name = terms.iter().any(|term| !term.fields.is_empty());
        for class in &input.classes {
            let tolerated = class.taints.iter().all(|taint| shape.tolerates.contains(taint));
            fits.push(match (tolerated, by_name) {
                (false, _) => Some(false),
                (true, true) => None,
                (true, false) => Some(shape.selection.matches("", &class.labels)),
            });
        }
    }
    fits
}
