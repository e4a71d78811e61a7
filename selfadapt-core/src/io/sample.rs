//! The number types that files store, and their way into floats.

use half::f16;

use crate::image::PixelType;

/// A number type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
}

/// Byte order of the numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endian {
    Little,
    Big,
}

/// What pixels become in memory: `f32` for images, `f64` where 32-bit labels must stay exact.
pub(crate) trait Sample: Copy + Default + Send + Sync {
    fn from_f64(value: f64) -> Self;
}

impl Sample for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Sample for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
}

impl Dtype {
    /// Bytes per number.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// The name in messages: `u16`, `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "u8",
            Dtype::U16 => "u16",
            Dtype::U32 => "u32",
            Dtype::U64 => "u64",
            Dtype::I8 => "i8",
            Dtype::I16 => "i16",
            Dtype::I32 => "i32",
            Dtype::I64 => "i64",
            Dtype::F16 => "f16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
        }
    }

    /// The family that an image remembers; the 64-bit unsigned type counts as the 32-bit one.
    pub fn pixel_type(self) -> PixelType {
        match self {
            Dtype::Bool | Dtype::U8 => PixelType::U8,
            Dtype::U16 => PixelType::U16,
            Dtype::U32 | Dtype::U64 => PixelType::U32,
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => PixelType::Signed,
            Dtype::F16 | Dtype::F32 | Dtype::F64 => PixelType::Float,
        }
    }

    /// Decodes `bytes` number by number; a trailing part of a number is left out.
    pub fn decode<T: Sample>(
        self,
        bytes: &[u8],
        endian: Endian,
    ) -> Box<dyn Iterator<Item = T> + '_> {
        macro_rules! numbers {
            ($type:ty, $to_f64:expr) => {{
                const SIZE: usize = size_of::<$type>();
                Box::new(bytes.chunks_exact(SIZE).map(move |chunk| {
                    let mut raw = [0; SIZE];
                    raw.copy_from_slice(chunk);
                    let value = match endian {
                        Endian::Little => <$type>::from_le_bytes(raw),
                        Endian::Big => <$type>::from_be_bytes(raw),
                    };
                    T::from_f64($to_f64(value))
                }))
            }};
        }
        match self {
            Dtype::Bool => Box::new(bytes.iter().map(|&b| T::from_f64(f64::from(b != 0)))),
            Dtype::U8 => Box::new(bytes.iter().map(|&b| T::from_f64(f64::from(b)))),
            Dtype::U16 => numbers!(u16, f64::from),
            Dtype::U32 => numbers!(u32, f64::from),
            Dtype::U64 => numbers!(u64, |v| v as f64),
            Dtype::I8 => Box::new(bytes.iter().map(|&b| T::from_f64(f64::from(b as i8)))),
            Dtype::I16 => numbers!(i16, f64::from),
            Dtype::I32 => numbers!(i32, f64::from),
            Dtype::I64 => numbers!(i64, |v| v as f64),
            Dtype::F16 => numbers!(f16, f64::from),
            Dtype::F32 => numbers!(f32, f64::from),
            Dtype::F64 => numbers!(f64, |v| v),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_and_signs() {
        let big: Vec<f64> = Dtype::I16
            .decode(&[0xff, 0xfe, 0x01, 0x00], Endian::Big)
            .collect();
        assert_eq!(big, [-2.0, 256.0]);
        let little: Vec<f64> = Dtype::U32.decode(&[0xff; 4], Endian::Little).collect();
        assert_eq!(little, [4_294_967_295.0]);
        let half: Vec<f32> = Dtype::F16.decode(&[0x00, 0x3c], Endian::Little).collect();
        assert_eq!(half, [1.0]);
    }
}
