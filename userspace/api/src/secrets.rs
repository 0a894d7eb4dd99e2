//! Secrets and configs: `/secrets`, `/configs`.

use crate::change::{
    already_exists, checked, invalid_argument, random_bits, replica, update as change, view,
};
use crate::filter::Filters;
use crate::find::{Named, find};
use crate::reply::{Answer, created, empty, found};
use crate::request::Request;
use crate::{Engine, EngineError, shape};
use essaim_objects::{
    Config, ConfigId, ConfigSpec, Data, Invalid, Labels, Secret, SecretId, SecretSpec, Service, Version,
};
use essaim_store::{Object, Transaction, View};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// What secrets and configs have in common.
pub(crate) trait Kept: Named + Clone + Into<Object> {
    /// What clients ask for.
    type Spec: DeserializeOwned + Clone + Send;

    /// The filters of their list.
    const FILTERS: &[&str];

    fn made(bits: u128, spec: Self::Spec) -> Self;
    fn check(spec: &Self::Spec) -> Result<(), Vec<Invalid>>;
    fn name_of(spec: &Self::Spec) -> &str;
    fn has_name(view: &View, name: &str) -> bool;
    fn version(&self) -> Version;
    fn labels(&self) -> Option<&Labels>;
    fn shown(&self) -> Result<Value, EngineError>;
    /// It with the labels of a spec that differs in nothing else; what the spec leaves out stays.
    fn relabelled(&self, spec: &Self::Spec) -> Option<Self>;
    fn users<'a>(&self, view: &'a View) -> Vec<&'a Arc<Service>>;
}

/// Whether the data may be given with an update: not at all, or as it is.
fn is_same_data(given: Option<&Data>, kept: Option<&Data>) -> bool {
    given.is_none_or(|given| given.as_bytes().is_empty() || Some(given) == kept)
}

macro_rules! kept {
    ($kind:ident $spec:ident $id:ident $by_name:ident $users:ident $shape:ident [$($filter:literal),*] $($member:ident)*) => {
        impl Kept for $kind {
            type Spec = $spec;

            const FILTERS: &[&str] = &[$($filter),*];

            fn made(bits: u128, spec: $spec) -> Self {
                Self::new($id::from_bits(bits), spec)
            }

            fn check(spec: &$spec) -> Result<(), Vec<Invalid>> {
                spec.check()
            }

            fn name_of(spec: &$spec) -> &str {
                spec.name.as_deref().unwrap_or_default()
            }

            fn has_name(view: &View, name: &str) -> bool {
                view.$by_name(name).is_some()
            }

            fn version(&self) -> Version {
                self.version
            }

            fn labels(&self) -> Option<&Labels> {
                self.spec.labels.as_ref()
            }

            fn shown(&self) -> Result<Value, EngineError> {
                shape::$shape(self)
            }

            fn relabelled(&self, spec: &$spec) -> Option<Self> {
                let is_same = spec.name == self.spec.name
                    && is_same_data(spec.data.as_ref(), self.spec.data.as_ref())
                    $(&& (spec.$member.is_none() || spec.$member == self.spec.$member))*;
                is_same.then(|| {
                    let mut changed = self.clone();
                    changed.spec.labels.clone_from(&spec.labels);
                    changed
                })
            }

            fn users<'a>(&self, view: &'a View) -> Vec<&'a Arc<Service>> {
                view.$users(self.id).collect()
            }
        }
    };
}

kept!(Secret SecretSpec SecretId secret_by_name services_with_secret secret ["id", "label", "name", "names"] driver templating);
kept!(Config ConfigSpec ConfigId config_by_name services_with_config config ["id", "label", "name"] templating);

/// `GET /secrets`, `GET /configs`.
pub(crate) async fn list<K: Kept>(engine: &impl Engine, request: &Request) -> Answer {
    let filters = Filters::of(&request.query, K::FILTERS)?;
    let view = view(engine).await?;
    let all = K::all(&view).filter(|it| {
        let name = it.name(&view);
        filters.any("id", |id| it.id().starts_with(id))
            && filters.any("name", |prefix| name.starts_with(prefix))
            && filters.any("names", |whole| name == whole)
            && filters.labels("label", it.labels())
    });
    let all: Vec<Value> = all.map(|it| it.shown()).collect::<Result<_, _>>()?;
    found(&all)
}

/// `GET /secrets/{id}`, `GET /configs/{id}`.
pub(crate) async fn inspect<K: Kept>(engine: &impl Engine, text: &str) -> Answer {
    let view = view(engine).await?;
    found(&find::<K>(&view, text)?.shown()?)
}

/// `POST /secrets/create`, `POST /configs/create`.
pub(crate) async fn create<K: Kept>(engine: &impl Engine, request: &Request) -> Answer {
    let spec: K::Spec = request.json()?;
    let replica = replica(engine)?;
    checked(K::check(&spec))?;
    let bits = random_bits()?;
    let new = K::made(bits, spec.clone());
    let id = new.id().to_owned();
    change(&replica, |view| {
        let name = K::name_of(&spec);
        if K::has_name(view, name) {
            return Err(already_exists(format_args!("{} {name} already exists", K::KIND)));
        }
        let mut transaction = Transaction::new();
        transaction.create(new.clone());
        Ok(transaction)
    })
    .await?;
    created(&json!({ "ID": id }))
}

/// `POST /secrets/{id}/update`, `POST /configs/{id}/update`.
pub(crate) async fn update<K: Kept>(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let version = request.query.version(K::KIND.as_str())?;
    let spec: K::Spec = request.json()?;
    let replica = replica(engine)?;
    change(&replica, |view| {
        let old = find::<K>(view, text)?;
        if old.version() != version {
            return Err(EngineError::out_of_sequence());
        }
        let changed = old
            .relabelled(&spec)
            .ok_or_else(|| invalid_argument("only updates to Labels are allowed"))?;
        let mut transaction = Transaction::new();
        transaction.update(changed);
        Ok(transaction)
    })
    .await?;
    Ok(empty(StatusCode::OK))
}

/// `DELETE /secrets/{id}`, `DELETE /configs/{id}`.
pub(crate) async fn remove<K: Kept>(engine: &impl Engine, text: &str) -> Answer {
    let replica = replica(engine)?;
    change(&replica, |view| {
        let it = find::<K>(view, text)?;
        let users: Vec<_> = it.users(view).iter().map(|service| service.spec.name()).collect();
        if !users.is_empty() {
            let services = if users.len() == 1 { "service" } else { "services" };
            return Err(invalid_argument(format_args!(
                "{} '{}' is in use by the following {services}: {}",
                K::KIND,
                it.name(view),
                users.join(", ")
            )));
        }
        let mut transaction = Transaction::new();
        transaction.remove(K::clone(&it));
        Ok(transaction)
    })
    .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
