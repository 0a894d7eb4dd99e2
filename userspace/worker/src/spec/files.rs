//! Secrets and configs.

use super::{Given, Unsupported, asks_for_the_service, driver};
use essaim_objects::{ContainerSpec, Data, Driver, FileTarget, Template, TemplateContext};
use essaim_runner::{Contents, FileKind, TaskFile};
use std::path::PathBuf;

/// Whoever may read it, if the spec does not say.
const MODE: u32 = 0o444;
/// The driver whose placeholders are known.
const TEMPLATES: &str = "golang";

pub(super) fn files(
    container: &ContainerSpec,
    given: Given<'_>,
    context: &TemplateContext,
) -> Result<Vec<TaskFile>, Unsupported> {
    let mut files = Vec::new();
    for reference in container.secrets() {
        let name = reference.secret_name.as_deref().unwrap_or_default();
        let field = format!("ContainerSpec.Secrets[{name}]");
        let secret = reference.secret_id.and_then(|id| given.secrets.get(&id));
        let secret =
            secret.ok_or_else(|| Unsupported::new(&field, "the secret was not assigned to this node"))?;
        let spec = &secret.spec;
        let contents = contents(&field, spec.data.as_ref(), spec.templating.as_ref(), context)?;
        files.push(file(
            FileKind::Secret,
            &field,
            name,
            reference.file.as_ref(),
            contents,
        )?);
    }
    for reference in container.configs() {
        let name = reference.config_name.as_deref().unwrap_or_default();
        let field = format!("ContainerSpec.Configs[{name}]");
        if reference.runtime.is_some() {
            return Err(Unsupported::new(field, "Runtime: this node has no use for it"));
        }
        let config = reference.config_id.and_then(|id| given.configs.get(&id));
        let config =
            config.ok_or_else(|| Unsupported::new(&field, "the config was not assigned to this node"))?;
        let spec = &config.spec;
        let contents = contents(&field, spec.data.as_ref(), spec.templating.as_ref(), context)?;
        files.push(file(
            FileKind::Config,
            &field,
            name,
            reference.file.as_ref(),
            contents,
        )?);
    }
    Ok(files)
}

fn contents(
    field: &str,
    data: Option<&Data>,
    templating: Option<&Driver>,
    context: &TemplateContext,
) -> Result<Contents, Unsupported> {
    let bytes = data.map(Data::as_bytes).unwrap_or_default();
    let templated = match (templating, driver(templating).0) {
        (None, _) | (_, "") => return Ok(Contents::new(bytes.to_vec())),
        (_, TEMPLATES) => std::str::from_utf8(bytes),
        (_, name) => {
            let reason = format!("no templates of \"{name}\" are known, expected \"{TEMPLATES}\"");
            return Err(Unsupported::new(field, reason));
        }
    };
    // What stands in it is not to be shown, so neither is where a placeholder is wrong.
    let wrong = || Unsupported::new(field, "its placeholders cannot be filled in");
    let text = templated.map_err(|_| wrong())?;
    let template = Template::parse(text).map_err(|_| wrong())?;
    if context.service_name.is_empty() && asks_for_the_service(text) {
        let reason = "it has placeholders for its service's name or labels, which the managers did not send";
        return Err(Unsupported::new(field, reason));
    }
    let text = template.expand(context);
    Ok(Contents::new(text.into_bytes()))
}

fn file(
    kind: FileKind,
    field: &str,
    name: &str,
    target: Option<&FileTarget>,
    contents: Contents,
) -> Result<TaskFile, Unsupported> {
    let number = |what: &str, text: Option<&String>| match text.map(String::as_str).unwrap_or_default() {
        "" => Ok(0),
        text => text
            .parse::<u32>()
            .map_err(|_| Unsupported::new(field, format!("File.{what}: \"{text}\" is no number"))),
    };
    let place = target
        .and_then(|target| target.name.as_deref())
        .filter(|name| !name.is_empty())
        .unwrap_or(name);
    Ok(TaskFile {
        kind,
        target: PathBuf::from(place),
        mode: target.and_then(|target| target.mode).unwrap_or(MODE),
        uid: number("UID", target.and_then(|target| target.uid.as_ref()))?,
        gid: number("GID", target.and_then(|target| target.gid.as_ref()))?,
        contents,
    })
}
