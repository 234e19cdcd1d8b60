//! Laws of the rebalancer's decisions, for whatever groups, machines and pods chance makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use drover::model::cluster::Policy;
use drover::model::group::Guarantee;
use drover::model::selector::NodeSelection;
use drover::rebalance::{
    Bar, Barred, Class, Group, INPUT_VERSION, Input, LastMove, Node, Purpose, Rules, Running, Shape, Waiting, decide,
};

const NOW: i64 = 1_800_000_000;
const CPU: u64 = 64_000;

/// Machines without GPUs, with eight A100, and with four T4.
fn classes() -> Vec<Class> {
    let class = |gpus, model: &str| Class {
        capacity: vec![CPU, gpus],
        labels: [("gpu-type".to_owned(), model.to_owned())].into(),
        ..Class::default()
    };
    vec![Class { capacity: vec![CPU, 0], ..Class::default() }, class(8, "A100"), class(4, "T4")]
}

/// Work of each kind, and work that asks for a model of GPU.
fn shapes() -> Vec<Shape> {
    let shape = |cpu, gpus, model: Option<&str>| {
        let labels = model.map(|model| ("gpu-type".to_owned(), model.to_owned())).into_iter().collect();
        Shape {
            requests: vec![cpu, gpus],
            selection: NodeSelection { labels, ..NodeSelection::default() },
            ..Shape::default()
        }
    };
    vec![
        shape(4_000, 0, None),
        shape(4_000, 1, None),
        shape(16_000, 4, None),
        shape(16_000, 8, None),
        shape(8_000, 2, Some("T4")),
        shape(8_000, 2, Some("A100")),
    ]
}

fn guarantee() -> impl Strategy<Value = Guarantee> {
    let some = |most| prop::option::of(0..most);
    (some(4_u32), some(100_u32), some(20_u32)).prop_map(|(nodes, cpus, gpus)| Guarantee { nodes, cpus, gpus })
}

fn node(groups: u32) -> impl Strategy<Value = Node> {
    let bars = prop::sample::select(&[Bar::Held, Bar::Vetoed, Bar::Cordoned, Bar::Unready, Bar::Moving][..]);
    let last = prop::option::weighted(0.3, (0..groups, 0..7_200_i64));
    (
        0..3_u32,
        prop::option::weighted(0.9, 0..groups),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.2, bars),
        last,
    )
        .prop_map(|(class, group, shareable, ineligible, bar, last)| Node {
            class,
            group,
            shareable,
            ineligible,
            barred: bar.map(|by| Barred { by, until: None }),
            last: last.map(|(from, ago)| LastMove { from, at: NOW - ago }),
            ..Node::default()
        })
}

fn input() -> impl Strategy<Value = Input> {
    (1..5_u32, 1..14_u32).prop_flat_map(|(groups, nodes)| {
        let many = |most: usize| 0..most;
        let policy = prop::sample::select(&[Policy::Demand, Policy::Cube][..]);
        let rules = (policy, 1..6_u32, any::<bool>(), any::<bool>());
        let running = (0..nodes, 0..groups, 0..6_u32, 0..100_000_i64);
        let waiting = (0..groups, 0..6_u32, 1..4_u32, 0..100_000_i64, prop::bool::weighted(0.1));
        (
            rules,
            prop::collection::vec((guarantee(), prop::option::weighted(0.2, 0..8_u32)), groups as usize),
            prop::collection::vec(node(groups), nodes as usize),
            prop::collection::vec(running, many(20)),
            prop::collection::vec(waiting, many(20)),
        )
            .prop_map(|((policy, max_moves, idle_only, in_order), groups, nodes, running, waiting)| {
                let mut input = Input {
                    version: INPUT_VERSION.to_owned(),
                    cluster: "prod".to_owned(),
                    time: NOW,
                    rules: Rules { policy, max_moves, idle_only, in_order, ..Rules::default() },
                    resources: ["cpu", "nvidia.com/gpu"].map(Arc::from).to_vec(),
                    classes: classes(),
                    shapes: shapes(),
                    ..Input::default()
                };
                input.groups.extend((0..).zip(groups).map(|(number, (guarantee, ceiling))| Group {
                    name: format!("g{number}").into(),
                    guarantee,
                    ceiling: Guarantee { nodes: ceiling, ..Guarantee::default() },
                    weight: 1,
                }));
                input.nodes.extend((0..).zip(nodes).map(|(number, node)| Node { name: name(number), ..node }));
                let running = running.into_iter().map(|(node, group, shape, ago)| Running {
                    node,
                    group: Some(group),
                    shape,
                    pods: 1,
                    since: NOW - ago,
                });
                input.running.extend(running);
                let waiting = (0..).zip(waiting).map(|(number, (group, shape, pods, ago, otherwise))| Waiting {
                    name: format!("jobs/{number}").into(),
                    group,
                    shape,
                    pods,
                    since: NOW - ago,
                    otherwise,
                });
                input.waiting.extend(waiting);
                input.waiting.sort_by_key(|work| work.since);
                input
            })
    })
}

fn name(number: u32) -> Arc<str> {
    format!("n{number:02}").into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_same_input_gives_the_same_decision_wherever_it_is_read(input in input()) {
        let decision = decide(&input);
        prop_assert_eq!(&decide(&input), &decision);
        let read: Input = serde_json::from_str(&serde_json::to_string(&input).expect("JSON")).expect("an input");
        prop_assert_eq!(&read, &input);
        prop_assert_eq!(decide(&read), decision);
    }

    #[test]
    fn no_machine_moves_that_must_not(input in input()) {
        let decision = decide(&input);
        prop_assert!(decision.moves.len() <= input.rules.max_moves as usize);
        let mut moved = BTreeSet::new();
        for made in &decision.moves {
            let (number, node) = (0_u32..).zip(&input.nodes).find(|(_, node)| node.name == made.node).expect("a machine");
            let group = |name: &str| input.groups.iter().position(|group| *group.name == *name).expect("a group") as u32;
            prop_assert!(moved.insert(&*made.node), "it moves once");
            prop_assert!(node.shareable && !node.ineligible && node.barred.is_none(), "{:?}", node);
            prop_assert_eq!(node.group, Some(group(&made.from)));
            let back = node.last.is_some_and(|last| last.from == group(&made.to) && NOW - last.at < input.rules.cooldown);
            prop_assert!(!back, "it would go back too soon: {:?}", node);
            if input.rules.idle_only {
                prop_assert!(input.running.iter().all(|pod| pod.node != number), "it is not idle: {:?}", made);
            }
        }
    }

    #[test]
    fn what_a_machine_moves_for_could_run_there(input in input()) {
        for made in decide(&input).moves.iter().filter(|made| made.purpose == Purpose::Serve) {
            let node = input.nodes.iter().find(|node| node.name == made.node).expect("a machine");
            let class = &input.classes[node.class as usize];
            let need = made.need.as_ref().expect("a need");
            let work = input.waiting.iter().find(|work| work.name == need.work).expect("work");
            let shape = &input.shapes[work.shape as usize];
            let has_room = shape.requests.iter().zip(&class.capacity).all(|(asked, had)| asked <= had);
            let labels = &shape.selection.labels;
            let is_chosen = labels.iter().all(|(key, value)| class.labels.get(key) == Some(value));
            prop_assert!(has_room && is_chosen && !work.otherwise, "{} cannot run on {}", need.work, made.node);
            prop_assert_eq!(input.groups[work.group as usize].name.clone(), made.to.clone());
            // Machines with GPUs do not serve work without, nor the other way round.
            prop_assert_eq!(class.capacity[1] > 0, shape.requests[1] > 0);
        }
    }

    #[test]
    fn no_group_is_taken_below_what_it_is_guaranteed(input in input()) {
        let decision = decide(&input);
        let mut groups: BTreeMap<&str, Option<u32>> = BTreeMap::new();
        groups.extend(input.nodes.iter().map(|node| (&*node.name, node.group)));
        for made in &decision.moves {
            let to = input.groups.iter().position(|group| group.name == made.to).expect("a group") as u32;
            groups.insert(&made.node, Some(to));
        }
        for (number, group) in (0..).zip(&input.groups) {
            if !decision.moves.iter().any(|made| made.from == group.name) {
                continue;
            }
            // Effective capacity, as its definition has it: without what pods of other groups hold.
            let (mut nodes, mut cpus, mut gpus) = (0.0, 0.0, 0.0);
            for (index, node) in (0_u32..).zip(&input.nodes).filter(|(_, node)| groups[&*node.name] == Some(number)) {
                let class = &input.classes[node.class as usize];
                let foreign = input.running.iter().filter(|pod| pod.node == index && pod.group != Some(number));
                let held = |at: usize| -> u64 {
                    foreign.clone().map(|pod| input.shapes[pod.shape as usize].requests[at] * u64::from(pod.pods)).sum()
                };
                let left = |at: usize| class.capacity[at].saturating_sub(held(at)) as f64;
                let main = usize::from(class.capacity[1] > 0);
                nodes += left(main) / class.capacity[main] as f64;
                cpus += left(0) / 1000.0;
                gpus += left(1);
            }
            let least = group.guarantee;
            for (what, has, least) in [("machines", nodes, least.nodes), ("cores", cpus, least.cpus), ("GPUs", gpus, least.gpus)] {
                let least = least.map_or(0.0, f64::from);
                prop_assert!(has + 0.01 >= least, "{} has {} {} of {}: {:#?}", group.name, has, what, least, decision.moves);
            }
        }
    }
}
