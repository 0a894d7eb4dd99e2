use crate::bundle::TrustBundle;
use crate::directory::{Directory, FoundFile};
use crate::entropy::{Entropy, EntropyError};
use crate::key_file::{KeyFile, KeyFileError};
use crate::{Certificate, CertificateError, DataKeys, Identity, IdentityError, PrivateKey, UnlockKey};
use std::io;

#[cfg(test)]
mod crash_at_every_step;
#[cfg(test)]
mod tests;

/// The node's certificate, and while the root is rotated the cross-signed one (PEM).
pub const CERTIFICATE_FILE: &str = "node.crt";
/// The roots that the node trusts (PEM).
pub const TRUST_FILE: &str = "root-ca.crt";
/// The node's private key, and on a manager the keys of its log.
pub const KEY_FILE: &str = "node.key";

/// Why a node's identity cannot be read or saved.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk fails. What was being saved may be there or not, and what was there before still can be read.
    #[error("{operation} {name} failed")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// The file.
        name: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner may read or write the file: its secrets may be known. Nothing was read.
    #[error(
        "{name} has permissions {found:04o}, expected 0600; make sure that nobody has read it, and chmod 600 it"
    )]
    Permissions {
        /// The file.
        name: &'static str,
        /// Its permissions.
        found: u32,
    },
    /// A file is missing that was there with the others.
    #[error("{0} is missing; take it back from a copy, or leave the cluster and join anew")]
    Missing(&'static str),
    /// The key file cannot be read.
    #[error("{KEY_FILE} cannot be used")]
    Keys(#[from] KeyFileError),
    /// A file of certificates cannot be read.
    #[error("{name} cannot be used")]
    Certificates {
        /// The file.
        name: &'static str,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// No key in the key file belongs to the certificate, or the certificate does not hold under the roots.
    #[error("{CERTIFICATE_FILE}, {KEY_FILE} and {TRUST_FILE} do not belong together")]
    Identity(#[from] IdentityError),
    /// There are no random bytes to encrypt with; nothing was changed.
    #[error("the keys cannot be encrypted")]
    Entropy(#[from] EntropyError),
}

/// What was found in a node's identity directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the node is in no cluster yet.
    Nothing,
    /// A certificate without a key: a first identity was not saved to the end, or the key file was removed. The node has
    /// to join (anew).
    Unfinished,
    /// An identity.
    Identity,
}

/// A node's identity directory: its certificate, its keys and the roots that it trusts.
///
/// Whatever step of a change a crash interrupts, what is left can be loaded, and is the old or the new. A file is written
/// beside its place, synced, renamed into it, and the directory synced. A change of the certificate goes so: the key
/// file with both keys, the roots of both, the certificate, the new roots, the key file with the new key.
#[derive(Debug)]
pub struct IdentityStore<D> {
    directory: D,
    unlock: Option<UnlockKey>,
    identity: Option<Identity>,
    data_keys: Option<DataKeys>,
    /// Keys that the certificate on disk may belong to: more than one where a change failed halfway, none before the first
    /// identity is on its way.
    candidates: Vec<PrivateKey>,
    /// The roots on disk, or those of both sides of a change that failed halfway.
    trust_on_disk: Option<TrustBundle>,
}

impl<D: Directory> IdentityStore<D> {
    /// Reads the directory; the unlock key is used where the keys are encrypted, and then kept for what is saved.
    ///
    /// # Errors
    /// See [`StoreError`]; [`KeyFileError::Locked`] where the unlock key is needed.
    pub fn open(directory: D, unlock: Option<UnlockKey>) -> Result<(Self, Found), StoreError> {
        let keys = read(&directory, KEY_FILE)?;
        let certificate = read(&directory, CERTIFICATE_FILE)?;
        let mut store = Self {
            directory,
            unlock: None,
            identity: None,
            data_keys: None,
            candidates: Vec::new(),
            trust_on_disk: None,
        };
        // The key file is the last that a first identity is saved to.
        let Some(keys) = keys else {
            let found = if certificate.is_some() {
                Found::Unfinished
            } else {
                Found::Nothing
            };
            return Ok((store, found));
        };
        if keys.mode & 0o077 != 0 {
            return Err(StoreError::Permissions {
                name: KEY_FILE,
                found: keys.mode,
            });
        }
        let certificate = certificate.ok_or(StoreError::Missing(CERTIFICATE_FILE))?;
        let roots = read(&store.directory, TRUST_FILE)?.ok_or(StoreError::Missing(TRUST_FILE))?;
        let unreadable = |name| move |source| StoreError::Certificates { name, source };
        let chain = Certificate::all_from_pem(&text(&certificate)).map_err(unreadable(CERTIFICATE_FILE))?;
        let trust = TrustBundle::from_pem(&text(&roots)).map_err(unreadable(TRUST_FILE))?;
        let file = KeyFile::decode(&keys.bytes, unlock.as_ref())?;
        let own = chain.first().map(Certificate::public_key);
        let fits = |key: &&PrivateKey| own == Some(key.public_key().as_slice());
        let key = file.node_keys.iter().find(fits).or(file.node_keys.first());
        let key = key.ok_or(KeyFileError::Damaged("it holds no key"))?.clone();
        store.unlock = unlock.filter(|_| KeyFile::is_locked(&keys.bytes));
        store.identity = Some(Identity::new(key, chain, trust.clone())?);
        store.data_keys = file.data_keys;
        store.candidates = file.node_keys;
        store.trust_on_disk = Some(trust);
        Ok((store, Found::Identity))
    }

    /// The node's identity, where it has one.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The keys of this manager's log.
    pub fn data_keys(&self) -> Option<&DataKeys> {
        self.data_keys.as_ref()
    }

    /// The unlock key that the keys are encrypted with; none where autolock is off.
    pub fn unlock_key(&self) -> Option<&UnlockKey> {
        self.unlock.as_ref()
    }

    /// Saves the first identity, a renewed one, or one with other roots to trust.
    ///
    /// # Errors
    /// See [`StoreError`]; this store then still has the old one, and can be asked again.
    pub fn install(&mut self, identity: Identity, entropy: &mut dyn Entropy) -> Result<(), StoreError> {
        let chain: String = identity.chain().map(Certificate::to_pem).collect();
        let key = identity.key().clone();
        if self.candidates.is_empty() {
            // As long as there is no key file, nothing is loaded of the rest.
            self.write(TRUST_FILE, identity.trust().to_pem().as_bytes())?;
            self.trust_on_disk = Some(identity.trust().clone());
            self.write(CERTIFICATE_FILE, chain.as_bytes())?;
            self.candidates.push(key);
            self.write_keys(entropy)?;
        } else {
            let known = self.candidates.contains(&key);
            if !known {
                self.candidates.push(key.clone());
            }
            // Where there were several, it is not known which of them are on disk.
            if !known || self.candidates.len() > 1 {
                self.write_keys(entropy)?;
            }
            self.write_trust(&identity, true)?;
            self.write(CERTIFICATE_FILE, chain.as_bytes())?;
            self.write_trust(&identity, false)?;
            if self.candidates.len() > 1 {
                let before = std::mem::replace(&mut self.candidates, vec![key]);
                self.write_keys(entropy)
                    .inspect_err(|_| self.candidates = before)?;
            }
        }
        self.identity = Some(identity);
        Ok(())
    }

    /// Saves the keys of this manager's log, or removes them from a node that is no manager any more. Before the node
    /// has an identity they are only kept, and saved with it.
    ///
    /// # Errors
    /// See [`StoreError`]; this store then still has the old ones, and the disk has the old or the new.
    pub fn set_data_keys(
        &mut self,
        keys: Option<DataKeys>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        let before = std::mem::replace(&mut self.data_keys, keys);
        if !self.candidates.is_empty() {
            self.write_keys(entropy)
                .inspect_err(|_| self.data_keys = before)?;
        }
        Ok(())
    }

    /// Encrypts the keys with another unlock key from now on, or with none. The log stays as it is: its keys do not
    /// change.
    ///
    /// # Errors
    /// See [`StoreError`]; this store then still uses the old one, and the disk has the old or the new.
    pub fn set_unlock_key(
        &mut self,
        unlock: Option<UnlockKey>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        let before = std::mem::replace(&mut self.unlock, unlock);
        if !self.candidates.is_empty() {
            self.write_keys(entropy).inspect_err(|_| self.unlock = before)?;
        }
        Ok(())
    }

    fn write_keys(&mut self, entropy: &mut dyn Entropy) -> Result<(), StoreError> {
        let file = KeyFile {
            node_keys: self.candidates.clone(),
            data_keys: self.data_keys.clone(),
        };
        let bytes = file.encode(self.unlock.as_ref(), entropy)?;
        self.write(KEY_FILE, bytes.as_bytes())
    }

    /// Writes the roots of the new identity, with those on disk where they are to stay for now.
    fn write_trust(&mut self, identity: &Identity, keep: bool) -> Result<(), StoreError> {
        let wanted = match &self.trust_on_disk {
            Some(before) if keep => before.with(identity.trust()),
            Some(_) | None => identity.trust().clone(),
        };
        if self.trust_on_disk.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.write(TRUST_FILE, wanted.to_pem().as_bytes())?;
        self.trust_on_disk = Some(wanted);
        Ok(())
    }

    fn write(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |operation| {
            move |source| StoreError::Disk {
                operation,
                name,
                source,
            }
        };
        let beside = format!("{name}.new");
        self.directory.create(&beside, bytes).map_err(failed("writing"))?;
        self.directory.sync(&beside).map_err(failed("syncing"))?;
        self.directory.rename(&beside, name).map_err(failed("renaming"))?;
        self.directory
            .sync_directory()
            .map_err(failed("syncing the directory of"))
    }
}

fn read(directory: &impl Directory, name: &'static str) -> Result<Option<FoundFile>, StoreError> {
    directory.read(name).map_err(|source| StoreError::Disk {
        operation: "reading",
        name,
        source,
    })
}

fn text(file: &FoundFile) -> String {
    String::from_utf8_lossy(&file.bytes).into_owned()
}
