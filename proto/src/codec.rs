//! How messages are read: requests with no more fields than honest ones have.
//!
//! An empty message is two bytes on the wire and can be some hundreds in memory. So a limit of bytes alone lets a request of two megabytes
//! take a thousand. The fields of a large request are counted where they lie before anything is made of them.

use std::{marker::PhantomData, sync::LazyLock};

use prost::{
    DecodeError, Message, Name,
    bytes::{Buf as _, Bytes},
    encoding::{WireType, decode_key, decode_varint},
};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

/// The most fields that a request may have, those of the messages in it included. The largest honest ones, an entry with the most options,
/// a thousand tool assignments, the tools of the largest server, have less than half of it.
pub const MAX_FIELDS: usize = 50_000;
/// A request of fewer bytes cannot have as many.
const MIN_BYTES: usize = MAX_FIELDS;
/// As deep as prost reads.
const MAX_DEPTH: usize = 100;

static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/all.descriptors")).as_slice())
        .expect("the compiler of the contracts made it")
});

/// [`ProstCodec`], which counts the fields of requests; answers are those of our own services.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Name + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Counting<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Counting(PhantomData)
    }
}

/// Reads messages of a type.
#[derive(Debug)]
pub struct Counting<U>(PhantomData<U>);

impl<U: Message + Default + Name> Decoder for Counting<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let is_request = U::NAME.ends_with("Request");
        let bytes = buf.copy_to_bytes(buf.remaining());
        if is_request && bytes.len() >= MIN_BYTES && !has_few_fields(&U::full_name(), bytes.clone()) {
            return Err(Status::invalid_argument(format!(
                "the request has more than {MAX_FIELDS} fields"
            )));
        }
        U::decode(bytes).map(Some).map_err(|error| {
            let message = format!("the message is no {}: {error}", U::NAME);
            if is_request {
                Status::invalid_argument(message)
            } else {
                Status::internal(message)
            }
        })
    }
}

/// Whether a message has at most [`MAX_FIELDS`]. One that cannot be read is for prost to refuse.
fn has_few_fields(name: &str, bytes: Bytes) -> bool {
    let message = DESCRIPTORS.get_message_by_name(name);
    let mut left = MAX_FIELDS;
    count(message.as_ref(), bytes, &mut left, 0).is_err() || left > 0
}

/// Takes the fields of a message off `left`, until none is left.
fn count(
    message: Option<&MessageDescriptor>,
    mut bytes: Bytes,
    left: &mut usize,
    depth: usize,
) -> Result<(), DecodeError> {
    while bytes.has_remaining() && *left > 0 && depth < MAX_DEPTH {
        *left -= 1;
        let (number, wire_type) = decode_key(&mut bytes)?;
        let size = match wire_type {
            WireType::Varint => {
                decode_varint(&mut bytes)?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX),
            // What is in a group is of no field that we know: prost skips it.
            WireType::StartGroup | WireType::EndGroup => 0,
        };
        let value = bytes.split_to(size.min(bytes.len()));
        if wire_type == WireType::LengthDelimited
            && let Some(Kind::Message(inner)) = message
                .and_then(|message| message.get_field(number))
                .map(|field| field.kind())
        {
            count(Some(&inner), value, left, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::{PutInstallationCredentialRequest, SecretValue},
        registry::{
            BatchCreateToolAssignmentsRequest, CreateToolAssignmentRequest, Entry, InstallField, ToolAssignment,
            UpdateEntryRequest,
        },
    };

    fn passes<M: Message + Name>(message: &M) -> bool {
        has_few_fields(&M::full_name(), message.encode_to_vec().into())
    }

    fn batch(count: usize) -> BatchCreateToolAssignmentsRequest {
        let one = CreateToolAssignmentRequest {
            tool_assignment: Some(ToolAssignment::default()),
            ..CreateToolAssignmentRequest::default()
        };
        BatchCreateToolAssignmentsRequest {
            requests: vec![one; count],
            ..BatchCreateToolAssignmentsRequest::default()
        }
    }

    #[test]
    fn counts_fields_at_every_depth() {
        assert!(passes(&batch(1_000)));
        // Two fields each, of which one is the message that the other is in.
        assert!(passes(&batch(MAX_FIELDS / 2 - 1)));
        assert!(!passes(&batch(MAX_FIELDS / 2)));
        let entry = |fields| UpdateEntryRequest {
            entry: Some(Entry {
                install_fields: vec![InstallField::default(); fields],
                ..Entry::default()
            }),
            update_mask: None,
        };
        assert!(passes(&entry(64)));
        assert!(!passes(&entry(MAX_FIELDS)));
        let secrets = PutInstallationCredentialRequest {
            values: vec![SecretValue::default(); MAX_FIELDS],
            ..PutInstallationCredentialRequest::default()
        };
        assert!(!passes(&secrets));
    }

    #[test]
    fn takes_texts_as_one_field_each() {
        let mut message = batch(1);
        message.parent = "\u{a}".repeat(1 << 20);
        assert!(passes(&message));
    }
}
