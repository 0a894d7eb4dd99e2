//! Names follow what tasks are able to do.

use essaim_lab::{ClusterBuilder, Family};
use essaim_model::TaskState;
use essaim_netns_tests::Scene;
use essaim_netns_tests::names::{Answer, answered};

#[test]
fn only_ready_tasks_are_named_and_the_service_keeps_its_name_without_any() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.service("user", &["app"])?;
    for (service, node) in [("web", "n1"), ("web", "n2"), ("user", "n1")] {
        catalog.task(service, node)?;
    }
    let mut scene = Scene::start_idle(cluster, catalog)?;
    let vip = Answer::of([scene.catalog.vip("web", "app", Family::V4)?]);
    let second = Answer::of([scene.catalog.task_address("web.2", "app", Family::V4)?]);
    let ask = |scene: &Scene, name: &str, expected: &Answer| {
        answered(&scene.cluster, "user.1", name, "A", expected)
    };

    scene.catalog.set_state("web.1", TaskState::Draining)?;
    scene.apply()?;
    ask(&scene, "tasks.web", &second)?;
    ask(&scene, "web", &vip)?;

    scene.catalog.set_state("web.2", TaskState::Starting)?;
    scene.apply()?;
    ask(&scene, "tasks.web", &Answer::empty())?;
    ask(&scene, "web", &vip)?;
    ask(&scene, "web.2", &second)?;

    scene.catalog.set_state("web.1", TaskState::Gone)?;
    scene.catalog.set_state("web.2", TaskState::Gone)?;
    scene.apply()?;
    ask(&scene, "web", &vip)?;
    ask(&scene, "web.2", &Answer::empty())?;

    // Without VIPs the same name stands for the tasks, and with them again for the VIPs.
    scene.catalog.set_state("web.2", TaskState::Ready)?;
    let vips = std::mem::take(&mut scene.catalog.service_mut("web")?.networks[0].vips);
    scene.apply()?;
    ask(&scene, "web", &second)?;
    scene.catalog.service_mut("web")?.networks[0].vips = vips;
    scene.apply()?;
    ask(&scene, "web", &vip)
}
