//! Whose each pixel is: the object's that it lies in, or the nearest one's.

use std::collections::VecDeque;

use crate::labels::Labels;

/// For each pixel, row by row, the nearest object and how far it is.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// The label; 0 where no object lies within reach.
    pub owner: Vec<u32>,
    /// Steps between neighbours, 0 inside of the object.
    pub distance: Vec<u32>,
    /// How far away objects were looked for.
    pub reach: u32,
}

impl Surroundings {
    /// Those of all objects, up to `reach` steps away.
    pub fn of(labels: &Labels, reach: u32) -> Self {
        let (height, width) = labels.size();
        let mut owner = labels.as_slice().to_vec();
        let mut distance = vec![0; owner.len()];
        let mut queue: VecDeque<usize> = (0..owner.len()).filter(|&i| owner[i] > 0).collect();
        while let Some(pixel) = queue.pop_front() {
            if distance[pixel] == reach {
                continue;
            }
            let (y, x) = (pixel / width, pixel % width);
            let mut visit = |next: usize| {
                if owner[next] == 0 {
                    owner[next] = owner[pixel];
                    distance[next] = distance[pixel] + 1;
                    queue.push_back(next);
                }
            };
            if y > 0 {
                visit(pixel - width);
            }
            if y + 1 < height {
                visit(pixel + width);
            }
            if x > 0 {
                visit(pixel - 1);
            }
            if x + 1 < width {
                visit(pixel + 1);
            }
        }
        Self {
            owner,
            distance,
            reach,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_belong_to_the_nearest_object_within_reach() {
        let labels = Labels::from_rows(1, 9, vec![1, 0, 0, 0, 0, 2, 0, 0, 0]).unwrap();
        let found = Surroundings::of(&labels, 2);
        assert_eq!(found.owner, [1, 1, 1, 2, 2, 2, 2, 2, 0]);
        assert_eq!(found.distance, [0, 1, 2, 2, 1, 0, 1, 2, 0]);
        let square = Labels::from_rows(2, 2, vec![0, 0, 0, 1]).unwrap();
        assert_eq!(Surroundings::of(&square, 9).distance, [2, 1, 1, 0]);
        assert_eq!(Surroundings::of(&Labels::empty(2, 2), 9).owner, [0; 4]);
    }
}
