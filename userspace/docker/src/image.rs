//! Images: those of tasks from their registries, and that of sandboxes from this program.

use crate::engine::{CALL, Engine, Fault, WORK};
use crate::plan::{ContainerTask, SANDBOX_IMAGE};
use crate::sandbox;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::CreateImageOptions;
use futures_util::{Stream, StreamExt as _};
use std::time::Duration;

/// Longest from one word of a pull to the next. Too low, a slow registry's image never comes; too high, a task whose
/// registry hangs is rejected late.
const SILENCE: Duration = Duration::from_mins(2);
/// Longest to a pull's first word where the image is there already, perhaps in an older version.
const REFRESH: Duration = Duration::from_secs(5);

impl Engine {
    /// Has the engine hold a task's image, as new as its registry has it. One that is there serves where the registry
    /// does not give it.
    ///
    /// # Errors
    /// "No such image", as Swarm says it, where there is none.
    pub(crate) async fn have_image(&self, task: &ContainerTask) -> Result<(), Fault> {
        let image = &task.image;
        let is_there = self.has_image(image).await?;
        if is_there && image.contains('@') {
            return Ok(());
        }
        let patience = if is_there { REFRESH } else { SILENCE };
        match self.pull(image, task.credentials.clone(), patience).await {
            Ok(()) => Ok(()),
            Err(error) if is_there => {
                tracing::warn!(image, %error, "the image was not pulled; the one that is here is used");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(image, %error, "the image was not pulled");
                // The engine may have gone meanwhile, which is another reason.
                if self.has_image(image).await? {
                    return Ok(());
                }
                Err(Fault::Said {
                    status: 404,
                    message: format!("No such image: {image}"),
                })
            }
        }
    }

    /// Has the engine hold the image of sandboxes.
    pub(crate) async fn have_sandbox_image(&self) -> Result<(), Fault> {
        if self.has_image(SANDBOX_IMAGE).await? {
            return Ok(());
        }
        let archive = sandbox::archive().ok_or_else(|| Fault::Said {
            status: 0,
            message: format!("containers are not known on {}", std::env::consts::ARCH),
        })?;
        let (repository, tag) = SANDBOX_IMAGE.split_once(':').unwrap_or((SANDBOX_IMAGE, ""));
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            ..CreateImageOptions::default()
        };
        let docker = self.connected().await?.docker;
        let body = bollard::body_full(archive.into());
        self.to_end(docker.create_image(Some(options), Some(body), None), WORK, WORK)
            .await
    }

    async fn has_image(&self, image: &str) -> Result<bool, Fault> {
        let found = self
            .call(CALL, |docker| async move { docker.inspect_image(image).await })
            .await;
        match found {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_status(404) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn pull(
        &self,
        image: &str,
        credentials: Option<DockerCredentials>,
        patience: Duration,
    ) -> Result<(), Fault> {
        let options = CreateImageOptions {
            from_image: Some(image.to_owned()),
            ..CreateImageOptions::default()
        };
        let docker = self.connected().await?.docker;
        self.to_end(
            docker.create_image(Some(options), None, credentials),
            patience,
            SILENCE,
        )
        .await
    }

    /// Waits until the engine has said all, which begins within one time and goes on within another.
    async fn to_end<T>(
        &self,
        said: impl Stream<Item = Result<T, bollard::errors::Error>>,
        begins: Duration,
        goes_on: Duration,
    ) -> Result<(), Fault> {
        let mut said = std::pin::pin!(said);
        let mut limit = begins;
        loop {
            match tokio::time::timeout(limit, said.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(_))) => limit = goes_on,
                Ok(Some(Err(error))) => return Err(self.fault(error)),
                // Of a registry, not of the engine.
                Err(_) => {
                    return Err(Fault::Said {
                        status: 0,
                        message: format!("nothing came within {limit:?}"),
                    });
                }
            }
        }
    }
}
