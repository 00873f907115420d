//! What a sequence is made of: as it is planned, and as it is stored.

use crate::error::Result;
use crate::jobs::store::steps::{self, Planned, Step};

/// A part of a sequence, as it is planned.
pub enum Part {
    Step(Planned),
    #[cfg_attr(not(feature = "pg_test"), expect(dead_code, reason = "for kinds to come; src/outside/ proves it"))]
    Sequence(Vec<Part>),
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Part::Step(_) => false,
            Part::Sequence(parts) => parts.iter().all(Part::is_empty),
        }
    }
}

/// A part of a sequence, as it is stored.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Step(Step),
    Sequence(Vec<Node>),
}

impl Node {
    /// How many steps it has.
    pub(super) fn steps(&self) -> usize {
        match self {
            Node::Step(_) => 1,
            Node::Sequence(parts) => parts.iter().map(Node::steps).sum(),
        }
    }

    /// Is all of it done, as it was when it was read?
    pub(super) fn is_finished(&self) -> bool {
        match self {
            Node::Step(step) => step.is_finished(),
            Node::Sequence(parts) => parts.iter().all(Node::is_finished),
        }
    }

    pub(super) fn rows_left(&self) -> i64 {
        match self {
            Node::Step(step) => step.rows_left,
            Node::Sequence(parts) => parts.iter().map(Node::rows_left).sum(),
        }
    }

    /// Its number among its siblings.
    pub(super) fn number(&self, depth: usize) -> i32 {
        match self {
            Node::Step(step) => step.path.get(depth).copied().unwrap_or_default(),
            Node::Sequence(parts) => parts.first().map_or(0, |part| part.number(depth)),
        }
    }
}

/// From their paths. Steps come in order.
pub(super) fn tree(steps: &[Step], depth: usize) -> Vec<Node> {
    steps
        .chunk_by(|a, b| a.path.get(depth) == b.path.get(depth))
        .map(|part| match part {
            [step] if step.path.len() == depth + 1 => Node::Step(step.clone()),
            nested => Node::Sequence(tree(nested, depth + 1)),
        })
        .collect()
}

/// Writes down a part, and what is in it.
pub(super) fn write(job: pgrx::Uuid, path: &[i32], part: &Part) -> Result<()> {
    match part {
        Part::Step(planned) => steps::add(job, path, planned),
        Part::Sequence(parts) => {
            parts.iter().filter(|part| !part.is_empty()).enumerate().try_for_each(|(number, part)| {
                let path: Vec<i32> = path.iter().copied().chain([number as i32]).collect();
                write(job, &path, part)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(path: &[i32]) -> Step {
        Step {
            path: path.to_vec(),
            relid: None,
            reversible: false,
            params: json!({}),
            state: "planned".into(),
            rows_left: 0,
        }
    }

    fn shape(nodes: &[Node]) -> String {
        let one = |node: &Node| match node {
            Node::Step(_) => ".".to_owned(),
            Node::Sequence(parts) => format!("({})", shape(parts)),
        };
        nodes.iter().map(one).collect()
    }

    #[test]
    fn paths_make_a_tree() {
        assert_eq!(shape(&tree(&[], 0)), "");
        assert_eq!(shape(&tree(&[step(&[0])], 0)), ".");
        let steps = [step(&[0]), step(&[1, 0]), step(&[1, 1, 0]), step(&[1, 1, 1]), step(&[2, 0]), step(&[3])];
        let nodes = tree(&steps, 0);
        assert_eq!(shape(&nodes), ".(.(..))(.).");
        assert_eq!(nodes.iter().map(Node::steps).sum::<usize>(), 6);
    }
}
