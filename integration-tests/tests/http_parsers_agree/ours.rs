//! The requests of a connection as we read them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use http::Version;
use serde_json::{Map, Value, json};
use service_kit::http1::{BodyReader, Malformed, RequestHead, RequestReader};

/// Those that are read to their end, up to one behind which the connection closes; in the format of `node/read_requests.mjs`.
pub(crate) fn requests(message: &[u8]) -> Vec<Value> {
    let (mut reader, mut came, mut read) = (RequestReader::default(), BytesMut::from(message), Vec::new());
    while let Ok(Some((head, body))) = request(&mut reader, &mut came) {
        let keeps_open = head.keeps_open;
        read.push(shown(&head, &body));
        if !keeps_open {
            break;
        }
    }
    read
}

fn request(reader: &mut RequestReader, came: &mut BytesMut) -> Result<Option<(RequestHead, Vec<u8>)>, Malformed> {
    let Some(head) = reader.read(came)? else {
        return Ok(None);
    };
    let (mut reader, mut body) = (BodyReader::new(head.framing), Vec::new());
    while let Some(data) = reader.read(came)? {
        body.extend_from_slice(&data);
    }
    Ok(reader.is_ended().then_some((head, body)))
}

fn shown(head: &RequestHead, body: &[u8]) -> Value {
    let mut fields = Map::new();
    let parts = &head.parts;
    for name in parts.headers.keys() {
        let values = parts.headers.get_all(name).iter();
        // Node takes each byte for a character.
        let values = values.map(|value| value.as_bytes().iter().copied().map(char::from).collect::<String>());
        fields.insert(name.as_str().to_owned(), values.collect());
    }
    let version = match parts.version {
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    json!([
        parts.method.as_str(),
        parts.uri.to_string(),
        version,
        fields,
        STANDARD.encode(body)
    ])
}
