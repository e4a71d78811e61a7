//! Blends: the numbers of their CUDA kernels against the CPU's.

use selfadapt_kernels::blend::cuda as there;
use selfadapt_kernels::blend::{Blend, blend, blend_through_max_pool, blend_through_nearest_2x};
use selfadapt_kernels::conv2d::{Term, cuda};
use selfadapt_kernels::cuda::Array;

use crate::emulator::{largest_difference, numbers};
use crate::machines::each_machine;

#[test]
fn blends_and_their_gradients_are_the_cpus() {
    each_machine(|machine| {
        let of = |values: &[f32]| Array::of(&machine, values).unwrap();
        let shape @ [batch, channels, height, width] = [2, 3, 4, 6];
        let double = [batch, channels, 2 * height, 2 * width];
        let (len, planes) = (shape.iter().product::<usize>(), batch * channels);
        // Maps of both sizes, factors and shifts.
        let large: Vec<Vec<f32>> = (1..5).map(|seed| numbers(seed, 4 * len)).collect();
        let small: Vec<Vec<f32>> = (5..9).map(|seed| numbers(seed, len)).collect();
        let scales: Vec<Vec<f32>> = (9..13).map(|seed| numbers(seed, channels)).collect();
        let (own, shift) = (numbers(13, channels), numbers(14, planes));
        let arrays = |all: &[Vec<f32>]| all.iter().map(|v| of(v)).collect::<Vec<_>>();
        let (large_there, small_there) = (arrays(&large), arrays(&small));
        let scales_there = arrays(&scales);
        let (own_there, shift_there) = (of(&own), of(&shift));
        for count in 0..=4 {
            let large_terms: Vec<cuda::Term<'_>> = (large_there.iter().zip(&scales_there))
                .take(count)
                .map(|(values, scale)| cuda::Term { values, scale })
                .collect();
            let small_terms: Vec<cuda::Term<'_>> = (small_there.iter().zip(&scales_there))
                .take(count)
                .map(|(values, scale)| cuda::Term { values, scale })
                .collect();
            let large_list: Vec<Term<'_>> = (large.iter().zip(&scales))
                .take(count)
                .map(|(values, scale)| Term { values, scale })
                .collect();
            let small_list: Vec<Term<'_>> = (small.iter().zip(&scales))
                .take(count)
                .map(|(values, scale)| Term { values, scale })
                .collect();
            for shifted in [false, true] {
                let shift_here: &[f32] = if shifted { &shift } else { &[] };
                let shift_there = shifted.then_some(&shift_there);
                let blend_here = |terms| Blend {
                    terms,
                    shift: shift_here,
                };
                let blend_there = |terms| there::Blend {
                    terms,
                    shift: shift_there,
                };
                for own in [None, Some((&own[..], &own_there))] {
                    let mut here = numbers(20, len);
                    let mut ours = of(&here);
                    let (own, own_there) = (own.map(|o| o.0), own.map(|o| o.1));
                    blend(shape, own, blend_here(&small_list), &mut here).unwrap();
                    there::blend(shape, own_there, blend_there(&small_terms), &mut ours).unwrap();
                    assert!(largest_difference(&ours.read().unwrap(), &here) < 2e-6);

                    // Pooled: a map of twice the sides, few different values, so that there are ties.
                    let x: Vec<f32> = numbers(21, 4 * len)
                        .iter()
                        .map(|v| (v * 2.0).round())
                        .collect();
                    let mut here = numbers(22, 4 * len);
                    let mut ours = of(&here);
                    let (l, s) = (blend_here(&large_list), blend_here(&small_list));
                    blend_through_max_pool(double, own, l, &x, s, &mut here).unwrap();
                    let (l, s) = (blend_there(&large_terms), blend_there(&small_terms));
                    there::blend_through_max_pool(double, own_there, l, &of(&x), s, &mut ours)
                        .unwrap();
                    assert!(largest_difference(&ours.read().unwrap(), &here) < 2e-6);
                }
                let mut here = vec![0.0; len];
                let mut ours = Array::room(&machine, len).unwrap();
                let none = Blend {
                    terms: &[],
                    shift: &[],
                };
                blend_through_nearest_2x(shape, blend_here(&large_list), none, &mut here).unwrap();
                there::blend_through_nearest_2x(shape, blend_there(&large_terms), &mut ours)
                    .unwrap();
                assert!(largest_difference(&ours.read().unwrap(), &here) < 4e-6);
            }
        }
        let mut out = of(&small[0]);
        let none = there::Blend::default();
        let odd = [batch, channels, 3, 8];
        let error = there::blend_through_max_pool(odd, None, none, &small_there[0], none, &mut out);
        assert!(error.unwrap_err().to_string().contains("even sides"));
        assert!(there::blend([1, 1, 1, 1], None, none, &mut out).is_err());
    });
}
