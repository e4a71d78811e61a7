//! Tensors to and from little-endian bytes, whatever their number type.

use candle_core::{DType, Device, Tensor, WithDType};
use selfadapt_core::error::{Error, Result};

/// The numbers of a tensor, in row-major order, as little-endian bytes.
///
/// # Errors
/// If the tensor has a number type below one byte, or cannot be brought to the CPU.
pub(crate) fn of_tensor(tensor: &Tensor) -> Result<Vec<u8>> {
    fn encode<T: WithDType, const N: usize>(
        tensor: &Tensor,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<Vec<u8>> {
        let values = tensor.flatten_all()?.to_vec1::<T>()?;
        Ok(values.into_iter().flat_map(bytes).collect())
    }
    let tensor = &tensor.to_device(&Device::Cpu)?;
    match tensor.dtype() {
        DType::U8 => encode(tensor, u8::to_le_bytes),
        DType::U32 => encode(tensor, u32::to_le_bytes),
        DType::I16 => encode(tensor, i16::to_le_bytes),
        DType::I32 => encode(tensor, i32::to_le_bytes),
        DType::I64 => encode(tensor, i64::to_le_bytes),
        DType::F16 => encode(tensor, half::f16::to_le_bytes),
        DType::BF16 => encode(tensor, half::bf16::to_le_bytes),
        DType::F32 => encode(tensor, f32::to_le_bytes),
        DType::F64 => encode(tensor, f64::to_le_bytes),
        other => Err(Error::Weights(format!(
            "numbers of type {other:?} cannot be written; convert them to f32 first"
        ))),
    }
}

/// How many numbers a shape has; `None` if that, or a stride of the shape, is beyond what can be counted. A side of 0
/// leaves no number but strides of the others, which candle multiplies unchecked.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    let strides = shape
        .iter()
        .try_fold(1usize, |n, &side| n.checked_mul(side.max(1)));
    strides.map(|all| if shape.contains(&0) { 0 } else { all })
}

/// A CPU tensor of `shape` from little-endian bytes.
///
/// # Errors
/// If the number of bytes is not that of the shape, or the type is below one byte.
pub(crate) fn to_tensor(bytes: &[u8], dtype: DType, shape: &[usize]) -> Result<Tensor> {
    fn decode<T: WithDType, const N: usize>(
        bytes: &[u8],
        shape: &[usize],
        value: impl Fn([u8; N]) -> T,
    ) -> Result<Tensor> {
        let (whole, rest) = bytes.as_chunks::<N>();
        if !rest.is_empty() || elements(shape) != Some(whole.len()) {
            return Err(Error::Weights(format!(
                "a tensor of shape {shape:?} with {} bytes",
                bytes.len()
            )));
        }
        let values = whole.iter().map(|&chunk| value(chunk)).collect::<Vec<T>>();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
    match dtype {
        DType::U8 => decode(bytes, shape, u8::from_le_bytes),
        DType::U32 => decode(bytes, shape, u32::from_le_bytes),
        DType::I16 => decode(bytes, shape, i16::from_le_bytes),
        DType::I32 => decode(bytes, shape, i32::from_le_bytes),
        DType::I64 => decode(bytes, shape, i64::from_le_bytes),
        DType::F16 => decode(bytes, shape, half::f16::from_le_bytes),
        DType::BF16 => decode(bytes, shape, half::bf16::from_le_bytes),
        DType::F32 => decode(bytes, shape, f32::from_le_bytes),
        DType::F64 => decode(bytes, shape, f64::from_le_bytes),
        other => Err(Error::Weights(format!(
            "numbers of type {other:?} cannot be read"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_cannot_be_counted_are_refused_even_where_a_side_is_zero() {
        assert_eq!(elements(&[]), Some(1));
        assert_eq!(elements(&[2, 3]), Some(6));
        assert_eq!(elements(&[2, 0, 3]), Some(0));
        assert_eq!(elements(&[0, usize::MAX, 2]), None);
        assert_eq!(elements(&[usize::MAX, 2]), None);
        let error = to_tensor(&[], DType::F32, &[0, usize::MAX, 2]).unwrap_err();
        assert!(error.to_string().contains("a tensor of shape"), "{error}");
    }
}
