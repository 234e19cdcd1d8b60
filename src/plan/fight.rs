//! The fight breaker: a label that another manager keeps changing back is left alone for a while.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, ClusterPlan};

/// How many times a change may be undone before it is a fight, and how long drover then rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FightLimits {
    /// Undone so many times ...
    pub times: usize,
    /// ... within this time.
    pub within: SignedDuration,
    /// How long the label is left alone the first time; twice as long each further time, up to a day.
    pub rest: SignedDuration,
}

impl Default for FightLimits {
    fn default() -> Self {
        Self { times: 5, within: SignedDuration::from_mins(10), rest: SignedDuration::from_mins(30) }
    }
}

/// A label that drover leaves alone because somebody keeps changing it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fight {
    /// The node.
    pub node: String,
    /// The label.
    pub key: String,
    /// Who changes it, if the API server knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// The value that state asks for; none where it asks for no such label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// The value that the other sets; none where it removes the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// How many times it was changed back.
    pub times: usize,
    /// Until when drover leaves it alone.
    #[schemars(with = "String")]
    pub until: Timestamp,
}

/// What drover remembers of the labels that it set on a cluster, so that it notices a fight.
#[derive(Debug, Clone, Default)]
pub struct Fights {
    limits: FightLimits,
    seen: BTreeMap<(String, String), Record>,
}

#[derive(Debug, Clone, Default)]
struct Record {
    wanted: Option<String>,
    applied: VecDeque<Timestamp>,
    rests: u32,
    fight: Option<Fight>,
}

impl Fights {
    /// Nothing remembered yet.
    pub fn new(limits: FightLimits) -> Self {
        Self { limits, seen: BTreeMap::new() }
    }

    /// Takes the changes that are fought over out of a plan. Those that a fight begins with are returned, once.
    pub fn hold_back(&mut self, plan: &mut ClusterPlan, now: Timestamp) -> Vec<Fight> {
        let mut begun = Vec::new();
        for node in &mut plan.nodes {
            let name = &node.node;
            node.changes.retain(|change| {
                let Some(record) = self.seen.get_mut(&(name.clone(), change.key.clone())) else { return true };
                let (fought, new) = record.is_fought(name, change, self.limits, now);
                begun.extend(new);
                !fought
            });
        }
        plan.nodes.retain(|node| !node.is_empty());
        begun
    }

    /// Remembers a change that was applied.
    pub fn applied(&mut self, node: &str, change: &Change, now: Timestamp) {
        let record = self.seen.entry((node.to_owned(), change.key.clone())).or_default();
        if record.wanted != change.to {
            *record = Record { wanted: change.to.clone(), ..Record::default() };
        }
        record.applied.push_back(now);
        if record.applied.len() > self.limits.times {
            record.applied.pop_front();
        }
    }

    /// What is left alone now.
    pub fn open(&self, now: Timestamp) -> impl Iterator<Item = &Fight> {
        self.seen.values().filter_map(|record| record.fight.as_ref()).filter(move |fight| now < fight.until)
    }

    /// When the first of those that are left alone is tried again.
    pub fn next_try(&self, now: Timestamp) -> Option<Timestamp> {
        self.open(now).map(|fight| fight.until).min()
    }

    /// Forgets what was quiet for longer than anything here lasts.
    pub fn forget_old(&mut self, now: Timestamp) {
        let memory = self.limits.within.saturating_add(LONGEST_REST);
        self.seen.retain(|_, record| record.applied.back().is_some_and(|last| now.duration_since(*last) < memory));
    }
}

/// However often a fight begins anew, drover tries again after a day.
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(24);

impl Record {
    /// Whether the change is left alone, and the fight where it begins now.
    fn is_fought(&mut self, node: &str, change: &Change, limits: FightLimits, now: Timestamp) -> (bool, Option<Fight>) {
        if self.wanted != change.to {
            return (false, None); // state asks for something else now: that is no reversal
        }
        if let Some(fight) = &self.fight {
            if now < fight.until {
                return (true, None);
            }
            self.fight = None;
            self.applied.clear();
            return (false, None);
        }
        let recent = self.applied.iter().filter(|at| now.duration_since(**at) <= limits.within).count();
        if recent < limits.times {
            return (false, None);
        }
        let rest = limits.rest.saturating_mul(1 << self.rests.min(10)).min(LONGEST_REST);
        self.rests += 1;
        let fight = Fight {
            node: node.to_owned(),
            key: change.key.clone(),
            manager: change.set_by.as_ref().map(|by| by.manager.clone()),
            wanted: change.to.clone(),
            found: change.from.clone(),
            times: recent,
            until: now.checked_add(rest).unwrap_or(Timestamp::MAX),
        };
        self.fight = Some(fight.clone());
        (true, Some(fight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::SetBy;
    use crate::model::{Mode, Origin};
    use crate::plan::{NodePlan, Reason};

    fn change(to: &str) -> Change {
        let set_by = SetBy { manager: "node-feature-discovery".into(), time: None, fights: true };
        Change {
            key: "gpu".into(),
            from: Some("false".into()),
            to: Some(to.into()),
            reason: Reason::Asked,
            source: Origin { file: "nodes.yaml".into(), line: 1, column: 1 }.into(),
            set_by: Some(set_by),
            why: None,
        }
    }

    fn plan(to: &str) -> ClusterPlan {
        let mut plan = ClusterPlan::unreachable("prod", Mode::Enforce, 1, String::new());
        plan.nodes.push(NodePlan { node: "gpu-1".into(), changes: vec![change(to)], storage: None });
        plan
    }

    fn minute(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    /// Heals at each of the minutes, as long as no fight holds the change back.
    fn heal(fights: &mut Fights, to: &str, minutes: impl IntoIterator<Item = i64>) -> Vec<Fight> {
        let mut begun = Vec::new();
        for now in minutes.into_iter().map(minute) {
            let mut plan = plan(to);
            begun.extend(fights.hold_back(&mut plan, now));
            if !plan.nodes.is_empty() {
                fights.applied("gpu-1", &change(to), now);
            }
        }
        begun
    }

    #[test]
    fn a_label_that_is_changed_back_again_and_again_is_left_alone_for_a_while() {
        let mut fights = Fights::default();
        let begun = heal(&mut fights, "true", 0..6);
        assert_eq!(begun.len(), 1);
        assert_eq!(begun[0].manager.as_deref(), Some("node-feature-discovery"));
        assert_eq!((begun[0].times, begun[0].until), (5, minute(35)));
        assert_eq!(heal(&mut fights, "true", 6..35), [], "nothing new is said while it rests");
        assert_eq!(fights.open(minute(34)).count(), 1);
        assert_eq!(fights.next_try(minute(34)), Some(minute(35)));
        // It is tried again, and a fight that goes on rests for longer.
        let again = heal(&mut fights, "true", 35..41);
        assert_eq!(again.iter().map(|fight| fight.until).collect::<Vec<_>>(), [minute(100)]);
    }

    #[test]
    fn rare_drift_is_no_fight() {
        assert_eq!(heal(&mut Fights::default(), "true", (0..60).step_by(3)), []);
    }

    #[test]
    fn what_state_asks_for_anew_is_no_reversal() {
        let mut fights = Fights::default();
        for (index, value) in ["a", "b", "a", "b", "a", "b", "a", "b"].into_iter().enumerate() {
            assert_eq!(heal(&mut fights, value, [index as i64]), []);
        }
    }

    #[test]
    fn old_records_are_forgotten() {
        let mut fights = Fights::default();
        heal(&mut fights, "true", 0..3);
        fights.forget_old(minute(60));
        assert_eq!(fights.seen.len(), 1);
        fights.forget_old(minute(60 * 26));
        assert_eq!(fights.seen.len(), 0);
    }
}
