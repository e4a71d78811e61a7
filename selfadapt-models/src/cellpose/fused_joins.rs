//! Where gradients of CPnet's levels meet: at upsamplings, at poolings with their skip connections, and at the bottom.

use candle_core::Result;

use super::fused_levels::{Gradient, Leaving, Map};
use crate::fused::{
    Pending, Placed, PlacedTerm, Sum, blend, blend_through_max_pool, through_nearest_2x,
};

/// A blend's parts for the gradients that leave a level: factors along `x`, and shifts.
struct Joined {
    along: Option<Vec<f32>>,
    shift: Vec<f32>,
}

impl Joined {
    fn new(parts: &[&Pending]) -> Self {
        let sum = |of: &dyn Fn(&Pending) -> &[f32]| -> Vec<f32> {
            let mut total = of(parts[0]).to_vec();
            for part in &parts[1..] {
                total.iter_mut().zip(of(part)).for_each(|(t, v)| *t += v);
            }
            total
        };
        let along = parts.iter().all(|part| part.q.is_some());
        Self {
            along: along.then(|| sum(&|part| part.q.as_deref().unwrap_or_default())),
            shift: sum(&|part| &part.t),
        }
    }
}

/// The sum of what leaves a level, over images and pixels.
fn total(parts: &[&Pending]) -> Vec<f64> {
    let channels = parts.first().map_or(0, |part| part.total.len());
    (0..channels)
        .map(|c| parts.iter().map(|part| part.total[c]).sum())
        .collect()
}

/// The terms of what leaves a level whose input is `x`.
fn terms<'a>(leaving: &'a Leaving, x: &'a Map, joined: &'a Joined) -> Vec<PlacedTerm<'a>> {
    let along = joined.along.as_ref().map(|scale| PlacedTerm {
        values: &x.values,
        scale,
    });
    [leaving.first.across(), leaving.proj.across()]
        .into_iter()
        .chain(along)
        .collect()
}

/// Back through a nearest upsampling whose result is `x`.
pub(super) fn through_doubling(leaving: &Leaving, x: &Map) -> Result<Gradient> {
    let [batch, channels, height, width] = x.shape;
    let shape = [batch, channels, height / 2, width / 2];
    let joined = Joined::new(&[&leaving.first, &leaving.proj]);
    let doubled = Sum {
        terms: &terms(leaving, x, &joined),
        shift: &joined.shift,
    };
    let values = through_nearest_2x(shape, doubled)?;
    let total = total(&[&leaving.first, &leaving.proj]);
    Ok(Gradient { values, total })
}

/// The gradient by the deepest map `x`: through the decoder's first level, its skip connection, and the embedding.
pub(super) fn at_the_bottom(
    leaving: Leaving,
    x: &Map,
    (mut skip, deep): (Pending, Map),
    by_mean: &[f64],
) -> Result<Gradient> {
    let pixels = x.pixels() as f64;
    let joined = Joined::new(&[&leaving.first, &leaving.proj]);
    let shift: Vec<f32> = joined
        .shift
        .iter()
        .zip(&skip.t)
        .zip(by_mean)
        .map(|((a, b), mean)| a + b + (mean / pixels) as f32)
        .collect();
    let mut total = total(&[&leaving.first, &leaving.proj, &skip]);
    let channels = total.len().max(1);
    for (i, mean) in by_mean.iter().enumerate() {
        total[i % channels] += mean;
    }
    let mut values = std::mem::replace(&mut skip.dz, Placed::none());
    let mut terms = terms(&leaving, x, &joined);
    terms.extend(skip.along(&deep));
    let sum = Sum {
        terms: &terms,
        shift: &shift,
    };
    blend(x.shape, Some(&skip.p), sum, &mut values)?;
    Ok(Gradient { values, total })
}

/// The gradient by an encoder map `above`: through its skip connection, and through the pooling to `x`.
pub(super) fn through_pooling(
    leaving: &Leaving,
    x: &Map,
    (mut skip, deep): (Pending, Map),
    above: &Map,
) -> Result<Gradient> {
    let joined = Joined::new(&[&leaving.first, &leaving.proj]);
    let pooled = Sum {
        terms: &terms(leaving, x, &joined),
        shift: &joined.shift,
    };
    let total = total(&[&leaving.first, &leaving.proj, &skip]);
    let mut values = std::mem::replace(&mut skip.dz, Placed::none());
    let along: Vec<PlacedTerm> = skip.along(&deep).into_iter().collect();
    let own = Sum {
        terms: &along,
        shift: &skip.t,
    };
    blend_through_max_pool(
        above.shape,
        &skip.p,
        own,
        &above.values,
        pooled,
        &mut values,
    )?;
    Ok(Gradient { values, total })
}
