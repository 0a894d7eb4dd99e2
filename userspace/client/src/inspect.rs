//! `inspect`: objects as the daemon writes them, or through a template.

use crate::api::decode;
use crate::console::{Exit, Session};
use crate::error::Error;
use crate::template::Template;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

/// How objects are to be shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InspectArgs {
    /// Format the output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

impl InspectArgs {
    /// The objects as text.
    pub(crate) fn render(&self, objects: &[Bytes]) -> Result<String, Error> {
        match self.format.as_deref().filter(|format| !format.is_empty()) {
            None => pretty(objects),
            Some("json") => {
                let objects: Result<Vec<_>, _> = objects
                    .iter()
                    .map(|object| String::from_utf8_lossy(object).trim().to_owned())
                    .map(Ok::<_, Error>)
                    .collect();
                Ok(format!("[{}]\n", objects?.join(",")))
            }
            Some(format) => {
                let template = Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"))?;
                let mut text = String::new();
                for object in objects {
                    text.push_str(&template.fill(&decode::<Value>("inspect", object)?)?);
                    text.push('\n');
                }
                Ok(text)
            }
        }
    }
}

/// A list of the objects, four spaces a level, members in the daemon's order.
fn pretty(objects: &[Bytes]) -> Result<String, Error> {
    if objects.is_empty() {
        return Ok("[]\n".to_owned());
    }
    let whole = [b"[".to_vec(), objects.join(&b','), b"]".to_vec()].concat();
    let unreadable = |source| Error::Answer {
        request: "inspect".to_owned(),
        source,
    };
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut from = serde_json::Deserializer::from_slice(&whole);
    let mut to = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde_transcode::Transcoder::new(&mut from)
        .serialize(&mut to)
        .map_err(unreadable)?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| unreadable(serde::de::Error::custom(error)))
}

impl Session<'_, '_> {
    /// Reads each object; those that are missing are told after the others are shown.
    pub(crate) async fn inspect(
        &mut self,
        kind: &str,
        folder: &str,
        names: &[String],
        query: &[(&str, &str)],
        show: impl AsyncFn(&Self, &[Bytes]) -> Result<String, Error>,
    ) -> Result<Exit, Error> {
        let mut objects = Vec::new();
        let mut missing = Vec::new();
        for name in names {
            match self
                .client
                .get_bytes(&format!("{folder}/{}", crate::api::encode(name)), query)
                .await
            {
                Ok(object) => objects.push(object),
                Err(error) if error.is_missing() => missing.push(format!("essaim: no such {kind}: {name}")),
                Err(error) => return Err(error),
            }
        }
        let text = show(self, &objects).await?;
        self.print(&text)?;
        for complaint in &missing {
            self.complain(complaint)?;
        }
        Ok(if missing.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Vec<Bytes> {
        vec![
            Bytes::from_static(b"{\"Z\":1.5,\"A\":[],\"B\":{\"c\":\"<x>\"}}\n"),
            Bytes::from_static(b"{\"Z\":2}"),
        ]
    }

    #[test]
    fn members_keep_their_order() {
        let text = InspectArgs::default().render(&objects()).unwrap();
        let expected = "[\n    {\n        \"Z\": 1.5,\n        \"A\": [],\n        \"B\": {\n            \"c\": \"<x>\"\n        }\n    },\n    {\n        \"Z\": 2\n    }\n]\n";
        assert_eq!(text, expected);
        assert_eq!(InspectArgs::default().render(&[]).unwrap(), "[]\n");
    }

    #[test]
    fn templates_are_filled_in_for_each_object() {
        let with = |format: &str| {
            InspectArgs {
                format: Some(format.to_owned()),
            }
            .render(&objects())
        };
        assert_eq!(with("{{.Z}}").unwrap(), "1.5\n2\n");
        assert_eq!(
            with("json").unwrap(),
            "[{\"Z\":1.5,\"A\":[],\"B\":{\"c\":\"<x>\"}},{\"Z\":2}]\n"
        );
        assert!(with("{{").is_err());
        assert!(
            InspectArgs::default()
                .render(&[Bytes::from_static(b"{")])
                .is_err()
        );
    }
}
