//! `secret` and `config`: bytes that tasks see as files.

use crate::api::{Filters, decode, encode, filtered};
use crate::console::{Exit, Session};
use crate::error::Error;
use crate::human::{ago, time};
use crate::inspect::InspectArgs;
use crate::parse::key_value;
use crate::table::{List, ListArgs, row};
use crate::tasks::natural;
use bytes::Bytes;
use essaim_objects::{Config, ConfigSpec, Driver, Labels, Secret, SecretSpec, Timestamp};
use std::fmt::Write;

/// What can be done with secrets.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SecretCommand {
    /// Create a secret from a file or STDIN as content
    Create {
        /// What goes with it
        #[command(flatten)]
        make: CreateArgs,
        /// Secret driver
        #[arg(short, long)]
        driver: Option<String>,
        /// The secret's name
        secret: String,
        /// The file that holds its data, or - for standard input
        #[arg(value_name = "FILE|-")]
        file: Option<String>,
    },
    /// Display detailed information on one or more secrets
    Inspect(KeptInspect),
    /// List secrets
    #[command(alias = "list")]
    Ls(KeptList),
    /// Remove one or more secrets
    #[command(alias = "remove")]
    Rm(KeptRemove),
}

/// What can be done with configs.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Create a config from a file or STDIN
    Create {
        /// What goes with it
        #[command(flatten)]
        make: CreateArgs,
        /// The config's name
        config: String,
        /// The file that holds its data, or - for standard input
        #[arg(value_name = "FILE|-")]
        file: String,
    },
    /// Display detailed information on one or more configs
    Inspect(KeptInspect),
    /// List configs
    #[command(alias = "list")]
    Ls(KeptList),
    /// Remove one or more configs
    #[command(alias = "remove")]
    Rm(KeptRemove),
}

/// What `inspect` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct KeptInspect {
    #[command(flatten)]
    show: InspectArgs,
    /// Print the information in a human friendly format
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// What `ls` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct KeptList {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    show: ListArgs,
}

/// What `rm` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct KeptRemove {
    /// Names or IDs
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// What making a secret and making a config share.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CreateArgs {
    /// Labels
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Template driver (golang)
    #[arg(long, value_name = "DRIVER")]
    template_driver: Option<String>,
}

impl CreateArgs {
    fn labels(&self) -> Labels {
        self.label.iter().cloned().collect()
    }

    fn templating(&self) -> Option<Driver> {
        driver(self.template_driver.as_ref())
    }
}

fn driver(name: Option<&String>) -> Option<Driver> {
    let name = name.filter(|name| !name.is_empty())?;
    Some(Driver {
        name: Some(name.clone()),
        ..Driver::default()
    })
}

/// A secret or a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    Config,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Secret => "/secrets",
            Self::Config => "/configs",
        }
    }
}

/// What lists and people are shown of either.
struct Shown {
    id: String,
    name: String,
    driver: String,
    labels: Labels,
    created: Timestamp,
    updated: Timestamp,
    data: Option<String>,
}

impl From<Secret> for Shown {
    fn from(secret: Secret) -> Self {
        Self {
            id: secret.id.to_string(),
            name: secret.spec.name.unwrap_or_default(),
            driver: secret
                .spec
                .driver
                .and_then(|driver| driver.name)
                .unwrap_or_default(),
            labels: secret.spec.labels.unwrap_or_default(),
            created: secret.created_at,
            updated: secret.updated_at,
            data: None,
        }
    }
}

impl From<Config> for Shown {
    fn from(config: Config) -> Self {
        let data = config.spec.data.unwrap_or_default();
        Self {
            id: config.id.to_string(),
            name: config.spec.name.unwrap_or_default(),
            driver: String::new(),
            labels: config.spec.labels.unwrap_or_default(),
            created: config.created_at,
            updated: config.updated_at,
            data: Some(String::from_utf8_lossy(data.as_bytes()).into_owned()),
        }
    }
}

fn read(kind: Kind, object: &[u8]) -> Result<Shown, Error> {
    Ok(match kind {
        Kind::Secret => decode::<Secret>("GET /secrets", object)?.into(),
        Kind::Config => decode::<Config>("GET /configs", object)?.into(),
    })
}

/// The columns; the last one is the secrets' alone.
const COLUMNS: &[(&str, &str)] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("CreatedAt", "CREATED"),
    ("UpdatedAt", "UPDATED"),
    ("Labels", "LABELS"),
    ("Driver", "DRIVER"),
];

fn list(kind: Kind, mut shown: Vec<Shown>, now: Timestamp) -> List {
    shown.sort_by(|a, b| natural(&a.name, &b.name));
    let rows = shown.iter().map(|shown| {
        let labels: Vec<_> = shown
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut row = row([
            ("ID", shown.id.clone().into()),
            ("Name", shown.name.clone().into()),
            ("CreatedAt", ago(Some(shown.created), now).into()),
            ("UpdatedAt", ago(Some(shown.updated), now).into()),
            ("Labels", labels.join(",").into()),
        ]);
        if kind == Kind::Secret {
            row.insert("Driver".to_owned(), shown.driver.clone().into());
        }
        row
    });
    List {
        columns: match kind {
            Kind::Secret => COLUMNS,
            Kind::Config => COLUMNS.split_last().map_or(COLUMNS, |(_, columns)| columns),
        },
        table: match kind {
            Kind::Secret => &["ID", "Name", "Driver", "CreatedAt", "UpdatedAt"],
            Kind::Config => &["ID", "Name", "CreatedAt", "UpdatedAt"],
        },
        quiet: "ID",
        rows: rows.collect(),
    }
}

fn pretty(shown: &Shown) -> String {
    let mut text = String::new();
    // Writing to a string does not fail; docker sets secrets with spaces and configs with tabs.
    let (id, name, at) = match shown.data {
        Some(_) => ("ID:\t\t\t", "Name:\t\t\t", "\t"),
        None => ("ID:              ", "Name:              ", ""),
    };
    let _ = writeln!(text, "{id}{}\n{name}{}", shown.id, shown.name);
    if !shown.labels.is_empty() {
        text.push_str("Labels:\n");
        for (name, value) in &shown.labels {
            let _ = writeln!(text, " - {name}={value}");
        }
    }
    let created = time(shown.created).to_lowercase();
    let updated = time(shown.updated).to_lowercase();
    let _ = match &shown.data {
        Some(data) => writeln!(
            text,
            "Created at:            {at}{created}\nUpdated at:            {at}{updated}\nData:\n{data}"
        ),
        None => writeln!(
            text,
            "Driver:            {}\nCreated at:        {created}\nUpdated at:        {updated}",
            shown.driver
        ),
    };
    text
}

#[derive(serde::Deserialize)]
struct Created {
    #[serde(rename = "ID", alias = "Id")]
    id: String,
}

impl Session<'_, '_> {
    pub(crate) async fn secret(&mut self, command: &SecretCommand) -> Result<Exit, Error> {
        match command {
            SecretCommand::Create {
                make,
                driver,
                secret,
                file,
            } => {
                self.create_secret(make, driver.as_ref(), secret, file.as_deref())
                    .await
            }
            SecretCommand::Inspect(args) => self.inspect_kept(Kind::Secret, args).await,
            SecretCommand::Ls(args) => self.list_kept(Kind::Secret, args).await,
            SecretCommand::Rm(args) => self.remove_kept(Kind::Secret, args).await,
        }
    }

    async fn create_secret(
        &mut self,
        make: &CreateArgs,
        by: Option<&String>,
        name: &str,
        file: Option<&str>,
    ) -> Result<Exit, Error> {
        let data = match (file, by) {
            (Some(_), Some(_)) => {
                return Err(Error::Usage(
                    "a secret with a driver takes no file: the driver gives its data".to_owned(),
                ));
            }
            (None, None) => {
                return Err(Error::Usage(
                    "FILE is missing, expected a file, - for standard input, or --driver".to_owned(),
                ));
            }
            (Some(file), None) => Some(self.read_file(file)?.into()),
            (None, Some(_)) => None,
        };
        let spec = SecretSpec {
            name: Some(name.to_owned()),
            labels: Some(make.labels()),
            data,
            driver: driver(by),
            templating: make.templating(),
            ..SecretSpec::default()
        };
        let created: Created = self.client.create("/secrets/create", &spec).await?;
        self.line(&created.id)?;
        Ok(Exit::Done)
    }

    pub(crate) async fn config(&mut self, command: &ConfigCommand) -> Result<Exit, Error> {
        match command {
            ConfigCommand::Create { make, config, file } => {
                let spec = ConfigSpec {
                    name: Some(config.clone()),
                    labels: Some(make.labels()),
                    data: Some(self.read_file(file)?.into()),
                    templating: make.templating(),
                    ..ConfigSpec::default()
                };
                let created: Created = self.client.create("/configs/create", &spec).await?;
                self.line(&created.id)?;
                Ok(Exit::Done)
            }
            ConfigCommand::Inspect(args) => self.inspect_kept(Kind::Config, args).await,
            ConfigCommand::Ls(args) => self.list_kept(Kind::Config, args).await,
            ConfigCommand::Rm(args) => self.remove_kept(Kind::Config, args).await,
        }
    }

    async fn inspect_kept(&mut self, kind: Kind, args: &KeptInspect) -> Result<Exit, Error> {
        let render = async |_: &Self, objects: &[Bytes]| {
            if args.pretty {
                objects
                    .iter()
                    .map(|object| read(kind, object).map(|shown| pretty(&shown)))
                    .collect()
            } else {
                args.show.render(objects)
            }
        };
        self.inspect(kind.word(), kind.folder(), &args.names, &[], render)
            .await
    }

    async fn list_kept(&mut self, kind: Kind, args: &KeptList) -> Result<Exit, Error> {
        let filters = Filters::of(&args.filter).to_query();
        let query = filtered(filters.as_deref());
        let shown: Vec<Shown> = match kind {
            Kind::Secret => self
                .client
                .get::<Vec<Secret>>("/secrets", &query)
                .await?
                .into_iter()
                .map(Shown::from)
                .collect(),
            Kind::Config => self
                .client
                .get::<Vec<Config>>("/configs", &query)
                .await?
                .into_iter()
                .map(Shown::from)
                .collect(),
        };
        let text = list(kind, shown, self.now()).render(&args.show)?;
        self.print(&text)?;
        Ok(Exit::Done)
    }

    async fn remove_kept(&mut self, kind: Kind, args: &KeptRemove) -> Result<Exit, Error> {
        let mut exit = Exit::Done;
        for name in &args.names {
            let done = self
                .client
                .delete(&format!("{}/{}", kind.folder(), encode(name)), &[])
                .await;
            exit = exit.and(self.tally(name, done, name)?);
        }
        Ok(exit)
    }
}
