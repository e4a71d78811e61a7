//! What a model puts out per pixel: heads, and how each turns when the image is turned.

use serde::Serialize;

/// One output map of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// A name that people know: `flows`, `cell probability`, `dist`.
    pub name: &'static str,
    /// Channels of the map.
    pub channels: usize,
    /// What the numbers mean.
    pub kind: HeadKind,
}

/// What a head's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HeadKind {
    /// Logits of classes. One channel is a sigmoid (object or not), more are a softmax.
    /// Class maps turn with the image as scalars do.
    Classification,
    /// Real numbers.
    Regression(Equivariance),
}

/// How the channels of a regression head change when the image is flipped or turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Equivariance {
    /// Each channel only moves with its pixel (a distance map).
    Scalar,
    /// Two channels (dY, dX) that form a vector: components are negated and swapped (Cellpose's flows).
    Vector,
    /// Channel k of n is a distance along the angle 2 pi k / n, measured from +x towards +y
    /// (StarDist's rays): a quarter turn shifts the channels by n / 4, so n is a multiple of 4.
    Rays,
}

impl Head {
    /// Whether the head is trained by cross-entropy.
    pub fn is_classification(&self) -> bool {
        self.kind == HeadKind::Classification
    }
}
