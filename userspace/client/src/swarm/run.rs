//! The requests of `swarm`.

use super::{CaArgs, ExternalFlag, InitArgs, JoinArgs, SwarmCommand, TokenRole};
use crate::api::decode;
use crate::console::{Exit, Session};
use crate::error::Error;
use essaim_objects::{Cluster, ClusterSpec, ExternalCa, Node, Sensitive};
use std::time::Duration;

#[derive(serde::Deserialize, serde::Serialize)]
struct UnlockKey {
    #[serde(rename = "UnlockKey", default)]
    key: String,
}

/// What a change of the cluster is to draw anew.
#[derive(Clone, Copy, Default)]
struct Rotate {
    worker_token: bool,
    manager_token: bool,
    unlock_key: bool,
}

impl Session<'_, '_> {
    pub(crate) async fn swarm(&mut self, command: &SwarmCommand) -> Result<Exit, Error> {
        match command {
            SwarmCommand::Init(args) => self.init(args).await?,
            SwarmCommand::Join(args) => self.join(args).await?,
            SwarmCommand::Leave { force } => {
                let query: &[(&str, &str)] = if *force { &[("force", "1")] } else { &[] };
                self.client.post_nothing("/swarm/leave", query).await?;
                self.line("Node left the swarm.")?;
            }
            SwarmCommand::JoinToken { quiet, rotate, role } => {
                self.join_token(*role, *rotate, *quiet).await?;
            }
            SwarmCommand::Ca(args) => return self.ca(args).await,
            SwarmCommand::Unlock => self.unlock().await?,
            SwarmCommand::UnlockKey { quiet, rotate } => self.unlock_key(*rotate, *quiet).await?,
            SwarmCommand::Update(args) => {
                let before = self.cluster().await?;
                let mut spec = before.spec.clone();
                let external = self.external(&args.spec.external_ca)?;
                args.spec.apply(&mut spec, external);
                if let Some(autolock) = args.autolock {
                    spec.encryption_config.get_or_insert_default().auto_lock_managers = Some(autolock);
                }
                self.post_cluster(&before, &spec, Rotate::default()).await?;
                self.line("Swarm updated.")?;
                if args.autolock == Some(true) && !before.spec.auto_lock_managers() {
                    self.tell_unlock_key().await?;
                }
            }
        }
        Ok(Exit::Done)
    }

    /// Reads the certificates that flags name.
    fn external(&mut self, flags: &[ExternalFlag]) -> Result<Vec<ExternalCa>, Error> {
        let mut external = Vec::new();
        for flag in flags {
            let mut ca = flag.ca.clone();
            if let Some(path) = &flag.cert_file {
                ca.ca_cert = Some(self.read_text(path)?);
            }
            external.push(ca);
        }
        Ok(external)
    }

    fn read_text(&mut self, path: &str) -> Result<String, Error> {
        let bytes = self.read_file(path)?;
        String::from_utf8(bytes).map_err(|_| Error::Usage(format!("{path} is not text, expected PEM")))
    }

    async fn init(&mut self, args: &InitArgs) -> Result<(), Error> {
        let external = self.external(&args.spec.external_ca)?;
        let id: String = self
            .client
            .create("/swarm/init", &args.to_request(external))
            .await?;
        self.line(&format!(
            "Swarm initialized: current node ({id}) is now a manager.\n"
        ))?;
        self.tell_join_command(TokenRole::Worker, &id).await?;
        self.line("To add a manager to this swarm, run 'essaim swarm join-token manager' and follow the instructions.\n")?;
        if args.autolock {
            self.tell_unlock_key().await?;
        }
        Ok(())
    }

    async fn join(&mut self, args: &JoinArgs) -> Result<(), Error> {
        self.client.post("/swarm/join", &[], &args.to_request()).await?;
        let role = if self.info().await?.swarm.control_available {
            "manager"
        } else {
            "worker"
        };
        self.line(&format!("This node joined a swarm as a {role}."))
    }

    async fn cluster(&self) -> Result<Cluster, Error> {
        self.client.get("/swarm", &[]).await
    }

    async fn post_cluster(&self, before: &Cluster, spec: &ClusterSpec, rotate: Rotate) -> Result<(), Error> {
        let version = before.version.to_string();
        let word = |flag: bool| if flag { "true" } else { "false" };
        let query = [
            ("rotateManagerToken", word(rotate.manager_token)),
            ("rotateManagerUnlockKey", word(rotate.unlock_key)),
            ("rotateWorkerToken", word(rotate.worker_token)),
            ("version", version.as_str()),
        ];
        self.client.post("/swarm/update", &query, spec).await.map(drop)
    }

    async fn join_token(&mut self, role: TokenRole, rotate: bool, quiet: bool) -> Result<(), Error> {
        if rotate {
            let before = self.cluster().await?;
            let rotate = Rotate {
                worker_token: role == TokenRole::Worker,
                manager_token: role == TokenRole::Manager,
                unlock_key: false,
            };
            self.post_cluster(&before, &before.spec, rotate).await?;
            if !quiet {
                self.line(&format!("Successfully rotated {} join token.\n", role.as_str()))?;
            }
        }
        if quiet {
            let token = self.token(role).await?;
            return self.line(&token);
        }
        let id = self.node_reference("self").await?;
        self.tell_join_command(role, &id).await
    }

    async fn token(&self, role: TokenRole) -> Result<String, Error> {
        let tokens = self.cluster().await?.join_tokens.unwrap_or_default();
        let token = match role {
            TokenRole::Worker => tokens.worker,
            TokenRole::Manager => tokens.manager,
        };
        token
            .map(|token| token.0)
            .ok_or_else(|| Error::Missing(format!("the daemon gave no {} join token", role.as_str())))
    }

    async fn tell_join_command(&mut self, role: TokenRole, node: &str) -> Result<(), Error> {
        let node: Node = self.client.get(&format!("/nodes/{node}"), &[]).await?;
        let token = self.token(role).await?;
        let Some(address) = node.manager_status.and_then(|manager| manager.addr) else {
            return Err(Error::Missing(
                "this node has no address as a manager that others could join at".to_owned(),
            ));
        };
        let role = role.as_str();
        self.line(&format!(
            "To add a {role} to this swarm, run the following command:\n\n    essaim swarm join --token {token} {address}\n"
        ))
    }

    async fn tell_unlock_key(&mut self) -> Result<(), Error> {
        let key: UnlockKey = self.client.get("/swarm/unlockkey", &[]).await?;
        self.line(&unlock_text(&key.key))
    }

    async fn unlock_key(&mut self, rotate: bool, quiet: bool) -> Result<(), Error> {
        if rotate {
            let before = self.cluster().await?;
            if !before.spec.auto_lock_managers() {
                return Err(Error::Usage(
                    "cannot rotate because autolock is not turned on".to_owned(),
                ));
            }
            let rotate = Rotate {
                unlock_key: true,
                ..Rotate::default()
            };
            self.post_cluster(&before, &before.spec, rotate).await?;
            if !quiet {
                self.line("Successfully rotated manager unlock key.\n")?;
            }
        }
        let key: UnlockKey = self.client.get("/swarm/unlockkey", &[]).await?;
        if key.key.is_empty() {
            return Err(Error::Usage("no unlock key is set".to_owned()));
        }
        let text = if quiet { key.key } else { unlock_text(&key.key) };
        self.line(&text)
    }

    async fn unlock(&mut self) -> Result<(), Error> {
        match self.info().await?.swarm.local_node_state.as_str() {
            "locked" => {}
            "inactive" => return Err(Error::Usage("this node is not part of a swarm".to_owned())),
            _ => return Err(Error::Usage("swarm is not locked".to_owned())),
        }
        if self.console.input_is_terminal {
            self.print("Enter unlock key: ")?;
            self.console.out.flush()?;
        }
        let key = self.read_line()?;
        self.client
            .post("/swarm/unlock", &[], &UnlockKey { key })
            .await
            .map(drop)
    }

    async fn ca(&mut self, args: &CaArgs) -> Result<Exit, Error> {
        let before = self.cluster().await?;
        if !args.rotate {
            let root = before
                .tls_info
                .and_then(|tls| tls.trust_root)
                .filter(|root| !root.is_empty());
            let root =
                root.ok_or_else(|| Error::Missing("the daemon gave no root certificate".to_owned()))?;
            self.line(root.trim_end())?;
            return Ok(Exit::Done);
        }
        let mut spec = before.spec.clone();
        let mut external = self.external(&args.external_ca)?;
        let ca = spec.ca_config.get_or_insert_default();
        if let Some(expiry) = args.cert_expiry {
            ca.node_cert_expiry = Some(expiry);
        }
        if args.ca_cert.is_none() && args.ca_key.is_none() {
            ca.force_rotate = Some(ca.force_rotate.unwrap_or_default() + 1);
        }
        let cert = args
            .ca_cert
            .as_deref()
            .map(|path| self.read_text(path))
            .transpose()?;
        let key = args
            .ca_key
            .as_deref()
            .map(|path| self.read_text(path))
            .transpose()?;
        let ca = spec.ca_config.get_or_insert_default();
        // As docker's: they sign for the root that is given with them.
        for authority in &mut external {
            authority.ca_cert = authority.ca_cert.take().or_else(|| cert.clone());
        }
        if !external.is_empty() {
            ca.external_cas = Some(external);
        }
        ca.signing_ca_cert = cert;
        ca.signing_ca_key = key.map(Sensitive);
        self.post_cluster(&before, &spec, Rotate::default()).await?;
        if args.detach {
            return Ok(Exit::Done);
        }
        self.await_rotation(args.quiet).await?;
        let root = self
            .cluster()
            .await?
            .tls_info
            .and_then(|tls| tls.trust_root)
            .unwrap_or_default();
        self.line(root.trim_end())?;
        Ok(Exit::Done)
    }

    /// Waits until every node has a certificate of the new root.
    async fn await_rotation(&mut self, quiet: bool) -> Result<(), Error> {
        let mut shown = String::new();
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            let bytes = self.client.get_bytes("/swarm", &[]).await?;
            let cluster: Cluster = decode("GET /swarm", &bytes)?;
            let nodes: Vec<Node> = self.client.get("/nodes", &[]).await?;
            let root = cluster.tls_info.and_then(|tls| tls.trust_root);
            let renewed = |node: &&Node| {
                node.description
                    .as_ref()
                    .and_then(|description| description.tls_info.as_ref()?.trust_root.clone())
                    == root
            };
            let done = nodes.iter().filter(renewed).count();
            let text = format!("rotated TLS certificates: {done}/{} nodes", nodes.len());
            if !quiet && text != shown {
                self.complain(&text)?;
            }
            shown = text;
            if !cluster.root_rotation_in_progress && done == nodes.len() {
                return Ok(());
            }
        }
    }
}

fn unlock_text(key: &str) -> String {
    format!(
        "To unlock a swarm manager after it restarts, run the `essaim swarm unlock`\ncommand and provide the following key:\n\n    {key}\n\n\
         Remember to store this key in a password manager, since without it you\nwill not be able to restart the manager."
    )
}
