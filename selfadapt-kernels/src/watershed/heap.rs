//! A binary heap whose order of equals is that of CellProfiler's, so that ties between markers end alike.

/// A pixel that waits for its turn.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub value: f32,
    /// When it was reached; markers are of age 0, all others differ.
    pub age: u32,
    pub at: usize,
}

/// Lowest value first, then lowest age.
#[derive(Debug, Default)]
pub struct Heap(Vec<Entry>);

fn before(a: &Entry, b: &Entry) -> bool {
    a.value < b.value || (a.value == b.value && a.age < b.age)
}

impl Heap {
    pub fn push(&mut self, entry: Entry) {
        let mut child = self.0.len();
        self.0.push(entry);
        while child > 0 {
            let parent = (child - 1) / 2;
            if !before(&self.0[child], &self.0[parent]) {
                break;
            }
            self.0.swap(child, parent);
            child = parent;
        }
    }

    pub fn pop(&mut self) -> Option<Entry> {
        if self.0.is_empty() {
            return None;
        }
        let first = self.0.swap_remove(0);
        let mut parent = 0;
        loop {
            let mut least = parent;
            for child in [2 * parent + 1, 2 * parent + 2] {
                if child < self.0.len() && before(&self.0[child], &self.0[least]) {
                    least = child;
                }
            }
            if least == parent {
                return Some(first);
            }
            self.0.swap(parent, least);
            parent = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_come_in_order(values in prop::collection::vec(0u8..6, 0..60)) {
            let mut heap = Heap::default();
            for (at, &value) in values.iter().enumerate() {
                heap.push(Entry { value: f32::from(value), age: at as u32, at });
            }
            let found: Vec<_> = std::iter::from_fn(|| heap.pop()).map(|e| (e.value as u8, e.at)).collect();
            let mut expected: Vec<_> = values.iter().copied().zip(0..).collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
