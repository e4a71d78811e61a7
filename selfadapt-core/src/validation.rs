//! Choosing the validation crops of a run: by seed, one an image, and more of each where there are few images.

use candle_core::Tensor;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::crops::{crop, is_blank};
use crate::error::{Error, Result};
use crate::source::ImageSource;

/// Places that are drawn in an image for one that lies apart from those already taken.
const TRIES: usize = 16;

/// Where a crop lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The image, as the source counts them.
    pub image: usize,
    /// Its first row.
    pub top: usize,
    /// Its first column.
    pub left: usize,
}

/// Up to `count` crops `[N, C, side, side]` and where they lie: one of each image in an order drawn by seed, then further
/// ones, one of each image again, that share at most half of their pixels with any other of the same image. What is
/// concluded from a handful of cells is chance, and who has one image has no more than this.
///
/// Blank crops and images that cannot be used are passed over; an image smaller than a crop gives one.
///
/// # Errors
/// If no image has anything in it, none can be used, or one is gone.
pub fn choose(
    source: &dyn ImageSource,
    side: usize,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Result<(Tensor, Vec<Place>)> {
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.shuffle(rng);
    // A long folder of blank images is given up on rather than read to its end.
    order.truncate(4 * count.max(8));
    let tried = order.len();
    let (mut crops, mut places, mut failed) = (Vec::new(), Vec::new(), None);
    let mut round = order;
    while crops.len() < count && !round.is_empty() {
        let mut again = Vec::new();
        for image in round {
            if crops.len() == count {
                break;
            }
            match cut(source, image, side, &places, rng) {
                Ok(Some((found, place))) => {
                    crops.push(found);
                    places.push(place);
                    again.push(image);
                }
                Ok(None) => {}
                Err(error @ Error::Image(_)) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        round = again;
    }
    if crops.is_empty() {
        // All of them failed for one reason, as likely as not: a setting that suits none.
        if let Some(error) = failed {
            return Err(error);
        }
        return Err(Error::Image(format!(
            "expected something to see, found only constant pixels in {tried} images"
        )));
    }
    Ok((Tensor::stack(&crops, 0)?, places))
}

/// A crop of an image apart from those at `taken`; `None` where none was found or it is blank.
fn cut(
    source: &dyn ImageSource,
    image: usize,
    side: usize,
    taken: &[Place],
    rng: &mut ChaCha8Rng,
) -> Result<Option<(Tensor, Place)>> {
    let pixels = source.prepared(image)?;
    let (_, height, width) = pixels.dims3()?;
    let mut start = |size: usize| rng.random_range(0..=size.saturating_sub(side));
    for _ in 0..TRIES {
        let (top, left) = (start(height), start(width));
        let place = Place { image, top, left };
        if taken.iter().all(|other| apart(place, *other, side)) {
            let cut = crop(&pixels, (top, left), (side, side))?;
            return Ok((!is_blank(&cut)?).then_some((cut, place)));
        }
    }
    Ok(None)
}

/// Whether two crops share at most half of their pixels.
fn apart(one: Place, other: Place, side: usize) -> bool {
    let shared = |a: usize, b: usize| side.saturating_sub(a.abs_diff(b));
    one.image != other.image
        || 2 * shared(one.top, other.top) * shared(one.left, other.left) <= side * side
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::fixtures::{damaged, ramps};
    use rand::SeedableRng;

    fn places(sizes: &[(usize, usize)], count: usize, seed: u64) -> Vec<Place> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (crops, places) = choose(&ramps(sizes), 16, count, &mut rng).unwrap();
        assert_eq!(crops.dims(), [places.len(), 1, 16, 16]);
        places
    }

    fn of(image: usize, places: &[Place]) -> usize {
        places.iter().filter(|place| place.image == image).count()
    }

    #[test]
    fn one_image_after_the_other_gives_a_crop_before_any_gives_two() {
        let few = places(&[(64, 64); 5], 3, 1);
        assert_eq!(few.len(), 3);
        assert!((0..5).all(|image| of(image, &few) <= 1));
        let all = places(&[(64, 64); 5], 8, 1);
        assert_eq!(all.len(), 8);
        assert!((0..5).all(|image| (1..=2).contains(&of(image, &all))));
        // More of them move none of the first.
        assert_eq!(all[..3], few);
        assert_eq!(all, places(&[(64, 64); 5], 8, 1));
        assert_ne!(all, places(&[(64, 64); 5], 8, 2));
    }

    #[test]
    fn crops_of_an_image_lie_apart_and_a_small_one_gives_one() {
        let found = places(&[(80, 70), (16, 16), (5, 90)], 12, 3);
        assert_eq!(of(1, &found), 1);
        assert!(of(0, &found) > 4);
        for (at, one) in found.iter().enumerate() {
            assert!(found[..at].iter().all(|other| apart(*one, *other, 16)));
        }
        // A single image of one and a half crops has room for two at most.
        assert!(places(&[(16, 24)], 16, 0).len() <= 2);
    }

    #[test]
    fn a_damaged_image_is_passed_over_and_a_lost_one_is_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (_, found) = choose(&damaged(&[0, 1], None), 16, 4, &mut rng).unwrap();
        assert!(found.iter().all(|place| place.image == 2));
        let nothing = choose(&damaged(&[0, 1, 2], None), 16, 4, &mut rng).unwrap_err();
        assert!(nothing.to_string().contains("is damaged"), "{nothing}");
        let lost = choose(&damaged(&[0], Some(1)), 16, 4, &mut rng).unwrap_err();
        assert_eq!(lost.to_string(), "/no/such/file: it is gone");
    }
}
