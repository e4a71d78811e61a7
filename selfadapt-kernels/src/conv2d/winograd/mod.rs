//! Winograd's minimal filtering F(4 x 4, 3 x 3): a quarter of the multiplications of a 3 x 3 convolution.
//!
//! A tile of 4 x 4 outputs is `A^T [(G g G^T) * (B^T d B)] A` (Lavin and Gray 2016, equation 8), `d` being the
//! 6 x 6 input pixels around it and `g` the filter. Summing over channels before the outer transform turns
//! the product `*` into 36 matrix products. Points 0, 1, -1, 2, -2 and infinity; in f32 the result is
//! about 1e-6 off (relative L2), the direct sum 3e-7.

mod forward;
mod layout;
mod tiles;
mod transform;
mod weight_gradient;

pub(crate) use forward::{Filters, run};
pub(crate) use weight_gradient::run as weight_gradient;
