//! How many of a service's tasks run.

use essaim_objects::{Mode, Service, ServiceStatus, Task, TaskState};
use essaim_store::View;

/// How many of a service's tasks run, should run and have completed; of a job, those of its present run. As many of
/// a replicated job's should run after its end as during it, as with Docker.
pub(super) fn of(view: &View, service: &Service) -> ServiceStatus {
    let mode = service.spec.mode();
    let run = service
        .job_status
        .as_ref()
        .map(|job| job.job_iteration)
        .unwrap_or_default();
    let is_counted = |task: &Task| !mode.is_job() || task.job_iteration.unwrap_or_default() == run;
    let (mut running, mut completed, mut wanted) = (0, 0, 0);
    for task in view.tasks_of_service(service.id).filter(|task| is_counted(task)) {
        let state = task.status.state;
        running += u64::from(state == TaskState::Running && task.desired_state <= TaskState::Complete);
        completed += u64::from(mode.is_job() && state == TaskState::Complete);
        wanted += u64::from(task.desired_state <= TaskState::Complete && state <= TaskState::Running);
    }
    let desired = match mode {
        Mode::Replicated { replicas } => replicas,
        Mode::ReplicatedJob { max_concurrent, .. } => max_concurrent,
        Mode::Global | Mode::GlobalJob => wanted,
    };
    ServiceStatus {
        running_tasks: running,
        desired_tasks: desired,
        completed_tasks: completed,
        ..ServiceStatus::default()
    }
}
