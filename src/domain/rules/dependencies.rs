//! Who depends on whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::MonitorId;

/// The edges of `dependencies`.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    parents: BTreeMap<MonitorId, Vec<MonitorId>>,
    children: BTreeMap<MonitorId, Vec<MonitorId>>,
}

impl Dependencies {
    /// The graph of these edges, child first.
    pub fn new(edges: &[(i64, i64)]) -> Self {
        let mut graph = Self::default();
        for (child, parent) in edges {
            graph.parents.entry(MonitorId(*child)).or_default().push(MonitorId(*parent));
            graph.children.entry(MonitorId(*parent)).or_default().push(MonitorId(*child));
        }
        graph
    }

    /// Everything that `monitor` depends on, directly or not. What depends on `monitor` in turn (a circle) is no parent:
    /// two monitors that wait for each other would both be silent.
    pub fn ancestors(&self, monitor: MonitorId) -> BTreeSet<MonitorId> {
        let above = reach(&self.parents, monitor);
        if above.is_empty() {
            return above;
        }
        let below = reach(&self.children, monitor);
        above.difference(&below).copied().filter(|ancestor| *ancestor != monitor).collect()
    }

    /// Everything that depends on `monitor`, directly or not, without circles.
    pub fn descendants(&self, monitor: MonitorId) -> BTreeSet<MonitorId> {
        let below = reach(&self.children, monitor);
        if below.is_empty() {
            return below;
        }
        let above = reach(&self.parents, monitor);
        below.difference(&above).copied().filter(|descendant| *descendant != monitor).collect()
    }

    /// Every monitor that is named in an edge.
    pub fn named(&self) -> BTreeSet<MonitorId> {
        self.parents.keys().chain(self.children.keys()).copied().collect()
    }

    /// The monitors that wait for each other, each circle once: such edges hold nothing back.
    pub fn circles(&self) -> Vec<BTreeSet<MonitorId>> {
        let mut circles: Vec<BTreeSet<MonitorId>> = Vec::new();
        for monitor in self.parents.keys() {
            if circles.iter().any(|circle| circle.contains(monitor)) {
                continue;
            }
            let (above, below) = (reach(&self.parents, *monitor), reach(&self.children, *monitor));
            let circle: BTreeSet<MonitorId> = above.intersection(&below).copied().collect();
            if circle.contains(monitor) {
                circles.push(circle);
            }
        }
        circles
    }

    /// Whether nobody said anything of dependencies.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }
}

fn reach(edges: &BTreeMap<MonitorId, Vec<MonitorId>>, from: MonitorId) -> BTreeSet<MonitorId> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(monitor) = waiting.pop() {
        for next in edges.get(&monitor).into_iter().flatten() {
            if reached.insert(*next) {
                waiting.push(*next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::Dependencies;
    use crate::domain::MonitorId;

    #[test]
    fn circles_make_no_parents() {
        let graph = Dependencies::new(&[(1, 2), (2, 3), (3, 2), (4, 4)]);
        let above = |id| graph.ancestors(MonitorId(id)).into_iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(above(1), [2, 3]);
        assert_eq!(above(2), Vec::<i64>::new(), "2 and 3 wait for each other: neither is the other's parent");
        assert_eq!(above(3), Vec::<i64>::new());
        assert_eq!(above(4), Vec::<i64>::new());
        let below = graph.descendants(MonitorId(3)).into_iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(below, [1]);
        let circles: Vec<Vec<i64>> =
            graph.circles().iter().map(|circle| circle.iter().map(|id| id.0).collect()).collect();
        assert_eq!(circles, [vec![2, 3], vec![4]]);
        assert_eq!(graph.named().len(), 4);
    }
}
