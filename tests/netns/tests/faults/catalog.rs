//! Catalogs that are refused.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, eventually};
use essaim_netns_tests::load::Load;
use essaim_netns_tests::site::{ECHO, HTTP, SOON, Site};

fn problems(site: &Site, node: &str) -> anyhow::Result<String> {
    let status = site.status(node)?;
    Ok(status.get("problems").context("no problems told")?.to_string())
}

#[test]
fn an_invalid_catalog_is_told_in_full_and_changes_nothing() -> anyhow::Result<()> {
    let mut site = Site::web(ClusterBuilder::new().nodes(2), &[HTTP, ECHO], &["n1", "n2"])?;
    let mut load = Load::start(&site, &["n1"], 8)?;
    let good = site.catalog.catalog().to_toml();
    let revision = site.catalog.catalog().revision;
    let bad = format!(
        "{}\n\
         [[networks]]\nname = \"again\"\nvni = 7000\nsubnets = [\"10.1.9.0/24\"]\n\
         [[services]]\nname = \"other\"\ncolour = \"blue\"\n\
         [[services.networks]]\nname = \"nowhere\"\n\
         [[services.ports]]\npublished = 8080\ntarget = 80\n\
         [[services.ports]]\npublished = 70000\ntarget = 80\n",
        good.replace(&format!("revision = {revision}"), "revision = 99")
    );
    site.cluster.write_catalog_text(&bad)?;
    for node in ["n1", "n2"] {
        for words in [
            &["colour"][..],
            &["10.1.9.0/24"],
            &["nowhere"],
            &["8080"],
            &["70000"],
        ] {
            let line = site.logged(node, &[&["ERROR"], words].concat())?;
            // Line and column.
            ensure!(
                line.split(':')
                    .filter(|part| part.trim().parse::<u32>().is_ok())
                    .count()
                    >= 2
                    || line.contains("line"),
                "no place in the file: {line}"
            );
        }
        eventually(SOON, "the problems are in the status", || {
            let told = problems(&site, node)?;
            ensure!(told.contains("colour") && told.contains("nowhere"), "{told}");
            Ok(())
        })?;
        let status = site.status(node)?;
        ensure!(
            status.get("revision").and_then(serde_json::Value::as_u64) == Some(revision),
            "the applied revision is {:?}",
            status.get("revision")
        );
    }
    load.all_live()?;
    // Not even TOML, then nothing at all.
    site.cluster.write_catalog_text("revision = = 3\n")?;
    site.logged("n1", &["ERROR", "1:12"])?;
    load.all_live()?;
    site.cluster.write_catalog_text("")?;
    site.logged("n1", &["ERROR", "cluster"])?;
    load.all_live()?;
    // A good one is taken, and nothing is wrong any more.
    site.apply()?;
    for node in ["n1", "n2"] {
        let told = problems(&site, node)?;
        ensure!(told == "[]", "{told}");
        site.verified(node)?;
    }
    load.end_without_failure()
}
