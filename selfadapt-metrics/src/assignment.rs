//! The assignment problem on a sparse bipartite graph: the matching of largest total weight.
//!
//! Shortest augmenting paths with potentials (Jonker and Volgenant 1987), row by row. Overlap graphs
//! are sparse (an object touches a handful of others), so a path search stays local and whole-slide
//! images cost no dense matrix.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One step of the fixed-point grid on which weights are compared: ties within it are ties.
const GRID: f64 = (1u64 << 40) as f64;

/// For each row the column it is matched to, so that the sum of weights is the largest possible.
///
/// `rows[i]` holds row i's edges as `(column, weight)`, columns below `columns`; weights are not
/// negative, and at most 1e6. A row is left alone rather than matched where it has no edge.
pub fn largest_matching(rows: &[Vec<(usize, f64)>], columns: usize) -> Vec<Option<usize>> {
    let edges: Vec<Vec<(usize, i64)>> = rows
        .iter()
        .enumerate()
        .map(|(row, edges)| {
            // Column `columns + row` is row's own: taking it means to stay alone, at weight 0.
            edges
                .iter()
                .map(|&(column, weight)| (column, -(weight * GRID).round() as i64))
                .chain([(columns + row, 0)])
                .collect()
        })
        .collect();
    let mut search = Search::new(&edges, columns + rows.len());
    for row in 0..rows.len() {
        search.augment(row);
    }
    search
        .column_of
        .into_iter()
        .map(|column| column.filter(|&column| column < columns))
        .collect()
}

/// The matching so far and its dual variables: costs reduced by both potentials are never negative,
/// and zero along matched edges.
struct Search<'a> {
    edges: &'a [Vec<(usize, i64)>],
    row_potential: Vec<i64>,
    column_potential: Vec<i64>,
    column_of: Vec<Option<usize>>,
    row_of: Vec<Option<usize>>,
    distance: Vec<i64>,
    parent: Vec<usize>,
    settled: Vec<bool>,
}

impl<'a> Search<'a> {
    fn new(edges: &'a [Vec<(usize, i64)>], columns: usize) -> Self {
        let cheapest = |edges: &Vec<(usize, i64)>| edges.iter().map(|edge| edge.1).min();
        Self {
            edges,
            row_potential: edges.iter().filter_map(cheapest).collect(),
            column_potential: vec![0; columns],
            column_of: vec![None; edges.len()],
            row_of: vec![None; columns],
            distance: vec![i64::MAX; columns],
            parent: vec![0; columns],
            settled: vec![false; columns],
        }
    }

    /// Matches one more row along the shortest augmenting path (Dijkstra on reduced costs).
    fn augment(&mut self, start: usize) {
        let mut touched = Vec::new();
        let mut heap = BinaryHeap::new();
        self.relax(start, 0, &mut touched, &mut heap);
        let mut end = None;
        while let Some(Reverse((distance, column))) = heap.pop() {
            if self.settled[column] {
                continue;
            }
            self.settled[column] = true;
            match self.row_of[column] {
                None => {
                    end = Some((column, distance));
                    break;
                }
                Some(row) => self.relax(row, distance, &mut touched, &mut heap),
            }
        }
        if let Some((end, length)) = end {
            self.row_potential[start] += length;
            for &column in &touched {
                if self.settled[column] {
                    let gain = length - self.distance[column];
                    self.column_potential[column] -= gain;
                    if let Some(row) = self.row_of[column] {
                        self.row_potential[row] += gain;
                    }
                }
            }
            let mut column = end;
            loop {
                let row = self.parent[column];
                self.row_of[column] = Some(row);
                match self.column_of[row].replace(column) {
                    Some(previous) => column = previous,
                    None => break,
                }
            }
        }
        for column in touched {
            self.distance[column] = i64::MAX;
            self.settled[column] = false;
        }
    }

    fn relax(
        &mut self,
        row: usize,
        base: i64,
        touched: &mut Vec<usize>,
        heap: &mut BinaryHeap<Reverse<(i64, usize)>>,
    ) {
        for &(column, cost) in &self.edges[row] {
            let reduced = cost - self.row_potential[row] - self.column_potential[column];
            let distance = base + reduced;
            if distance < self.distance[column] {
                if self.distance[column] == i64::MAX {
                    touched.push(column);
                }
                self.distance[column] = distance;
                self.parent[column] = row;
                heap.push(Reverse((distance, column)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pathfinding::prelude::{Matrix, kuhn_munkres};
    use proptest::prelude::*;

    fn total(rows: &[Vec<(usize, f64)>], matching: &[Option<usize>]) -> f64 {
        matching
            .iter()
            .zip(rows)
            .filter_map(|(column, edges)| {
                let edge = edges.iter().find(|edge| Some(edge.0) == *column)?;
                Some(edge.1)
            })
            .sum()
    }

    #[test]
    fn gives_up_a_good_pair_for_two_that_are_better_together() {
        let rows = vec![vec![(0, 0.6), (1, 0.5)], vec![(0, 0.5)]];
        assert_eq!(largest_matching(&rows, 2), [Some(1), Some(0)]);
    }

    #[test]
    fn a_row_without_edges_stays_alone() {
        assert_eq!(
            largest_matching(&[vec![], vec![(0, 1.0)]], 1),
            [None, Some(0)]
        );
    }

    proptest! {
        /// Against an independent dense solver.
        #[test]
        fn is_as_heavy_as_the_dense_optimum(
            weights in prop::collection::vec(prop::collection::vec(0u32..20, 9), 1..9)
        ) {
            let rows: Vec<Vec<(usize, f64)>> = weights
                .iter()
                .map(|row| {
                    let edges = row.iter().enumerate().filter(|(_, weight)| **weight > 8);
                    edges.map(|(column, &weight)| (column, f64::from(weight) / 16.0)).collect()
                })
                .collect();
            let dense = Matrix::from_rows(weights.iter().map(|row| {
                row.iter().map(|&weight| if weight > 8 { i64::from(weight) } else { 0 })
            }))
            .unwrap();
            let matching = largest_matching(&rows, 9);
            let mut taken: Vec<usize> = matching.iter().flatten().copied().collect();
            let matched = taken.len();
            taken.sort_unstable();
            taken.dedup();
            prop_assert_eq!(taken.len(), matched);
            prop_assert_eq!(total(&rows, &matching) * 16.0, kuhn_munkres(&dense).0 as f64);
        }
    }
}
