//! The wire format of protocol buffers: fields of a message one after the other, never beyond its bytes.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// Four or eight bytes (floats and doubles among them).
    Fixed(&'a [u8]),
    /// A text, a message, packed numbers, or raw bytes.
    Bytes(&'a [u8]),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
    /// The field as it stands in the message, its key included.
    pub whole: &'a [u8],
}

/// The fields of a message; ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn next_field(&mut self) -> Result<Field<'a>, String> {
        let start = self.rest;
        let key = self.varint()?;
        let number = key >> 3;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed(self.take(8)?),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| cut(length))?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed(self.take(4)?),
            other => {
                return Err(format!(
                    "field {number} has the wire type {other}, which protocol buffers do not use"
                ));
            }
        };
        let length = start.len() - self.rest.len();
        Ok(Field {
            number,
            value,
            whole: start.get(..length).unwrap_or_default(),
        })
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than ten bytes".to_owned())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| cut(length as u64))?;
        self.rest = rest;
        Ok(taken)
    }
}

fn cut(length: u64) -> String {
    format!("expected {length} more bytes, found the end")
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.next_field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// The bytes of a text, message or raw field.
    pub fn bytes(&self) -> Result<&'a [u8], String> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(format!(
                "field {}: expected bytes, found a number",
                self.number
            )),
        }
    }

    /// A text.
    pub fn text(&self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?)
            .map_err(|error| format!("field {}: {error}", self.number))
    }

    /// The whole numbers of a repeated field's occurrence, packed or single, appended to `to`.
    pub fn integers(&self, to: &mut Vec<i64>) -> Result<(), String> {
        match self.value {
            Value::Varint(value) => to.push(value as i64),
            Value::Bytes(packed) => {
                let mut packed = Fields::of(packed);
                while !packed.rest.is_empty() {
                    to.push(packed.varint()? as i64);
                }
            }
            Value::Fixed(_) => {
                return Err(format!(
                    "field {}: expected whole numbers, found a fraction",
                    self.number
                ));
            }
        }
        Ok(())
    }
}

/// Appends a varint.
pub(super) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Appends a field of bytes.
pub(super) fn put_bytes(to: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(to, number << 3 | 2);
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(message: &[u8]) -> Result<Vec<u64>, String> {
        Fields::of(message).map(|field| Ok(field?.number)).collect()
    }

    #[test]
    fn fields_are_read_one_by_one() {
        let mut message = vec![0x08, 0x96, 0x01];
        put_bytes(&mut message, 2, b"testing");
        message.extend([0x1d, 0, 0, 0x80, 0x3f]);
        let fields: Vec<Field> = Fields::of(&message).map(Result::unwrap).collect();
        assert_eq!(fields[0].value, Value::Varint(150));
        assert_eq!(fields[1].text().unwrap(), "testing");
        assert_eq!(fields[2].value, Value::Fixed(&[0, 0, 0x80, 0x3f]));
        let whole: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.whole.to_vec())
            .collect();
        assert_eq!(whole, message);
        let mut packed = Vec::new();
        let field = Field {
            number: 1,
            value: Value::Bytes(&[3, 0x8e, 0x02]),
            whole: &[],
        };
        field.integers(&mut packed).unwrap();
        assert_eq!(packed, [3, 270]);
    }

    #[test]
    fn damage_is_an_error_and_ends_the_message() {
        assert!(numbers(&[0x12, 5, 1]).unwrap_err().contains("5 more bytes"));
        assert!(numbers(&[0x0b]).unwrap_err().contains("wire type 3"));
        assert!(numbers(&[0xff; 11]).unwrap_err().contains("ten bytes"));
        assert!(
            numbers(&[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1
            ])
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for field in Fields::of(&bytes).flatten() {
                let _ = (field.text(), field.integers(&mut Vec::new()));
            }
        }

        #[test]
        fn numbers_survive(value: u64) {
            let mut message = vec![8];
            put_varint(&mut message, value);
            let field = Fields::of(&message).next().unwrap().unwrap();
            prop_assert_eq!(field.value, Value::Varint(value));
        }
    }
}
