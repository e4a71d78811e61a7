//! Reading a pickle's bytes: lines, fixed fields, numbers and strings.

use super::Node;

/// A place in the bytes of a pickle.
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    /// Bytes read so far.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// The value of a number opcode (BININT, BININT1, BININT2, BINFLOAT, LONG1).
    pub(super) fn number(&mut self, opcode: u8) -> Result<Node, String> {
        Ok(match opcode {
            b'J' => Node::Int(i32::from_le_bytes(self.take_array()?).into()),
            b'K' => Node::Int(self.take_array::<1>()?[0].into()),
            b'M' => Node::Int(u16::from_le_bytes(self.take_array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.take_array()?)),
            // LONG1: little-endian two's complement of any length.
            _ => {
                let [length] = self.take_array()?;
                let bytes = self.take(length.into())?;
                if bytes.len() > 8 {
                    return Err(format!("an integer of {length} bytes, expected at most 8"));
                }
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut padded = [if negative { 0xff } else { 0 }; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                Node::Int(i64::from_le_bytes(padded))
            }
        })
    }

    /// The value of a string or bytes opcode.
    pub(super) fn string(&mut self, opcode: u8) -> Result<Node, String> {
        let length = match opcode {
            b'X' | b'T' | b'B' => u32::from_le_bytes(self.take_array()?).into(),
            0x8d | 0x8e => u64::from_le_bytes(self.take_array()?),
            _ => self.take_array::<1>()?[0].into(),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = self.take(length)?;
        Ok(match opcode {
            b'X' | 0x8c | 0x8d => match std::str::from_utf8(bytes) {
                Ok(text) => Node::Text(text.to_owned()),
                Err(_) => return Err("a string that is not UTF-8".into()),
            },
            _ => Node::Bytes(bytes.to_vec()),
        })
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let rest = &self.input[self.at..];
        let Some(taken) = rest.get(..n) else {
            return Err(format!(
                "the pickle ends early: {n} bytes expected at byte {}, {} left",
                self.at,
                rest.len()
            ));
        };
        self.at += n;
        Ok(taken)
    }

    pub(super) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn take_line(&mut self) -> Result<&'a str, String> {
        let rest = &self.input[self.at..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err("the pickle ends early: within a line".into());
        };
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a line that is not UTF-8".into())
    }
}
