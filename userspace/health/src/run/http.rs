use super::connect::connect;
use crate::http::{MOST_READ, request};
use crate::{FailureCause, HttpProbe, HttpResponse, Output, TaskPlace};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the body of an answer may take that says what is wrong.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// Asks once; what was answered is kept where it says that all is not well.
pub(super) async fn get(
    probe: &HttpProbe,
    place: &TaskPlace,
    output: &mut Output,
) -> Result<(), FailureCause> {
    let (mut stream, address) = connect(place, probe.port()).await?;
    let broken = |error: io::Error| FailureCause::Broken {
        reason: error.to_string(),
    };
    stream.write_all(&request(probe, address)).await.map_err(broken)?;
    let mut answer = Vec::with_capacity(MOST_READ);
    let status = loop {
        let read = read_more(&mut stream, &mut answer).await.map_err(broken)?;
        let response = HttpResponse::read(&answer).map_err(|error| FailureCause::Broken {
            reason: error.to_string(),
        });
        match response {
            Ok(HttpResponse::Status(status)) => break status,
            Ok(HttpResponse::Incomplete) if read > 0 => {}
            Ok(HttpResponse::Incomplete) => {
                output.push(&answer);
                let reason = "the server closed before its status".to_owned();
                return Err(FailureCause::Broken { reason });
            }
            Err(cause) => {
                output.push(&answer);
                return Err(cause);
            }
        }
    };
    if (200..400).contains(&status) {
        return Ok(());
    }
    // Neither a body that does not end nor one that breaks off changes the status.
    let _ = timeout(BODY_PATIENCE, async {
        while read_more(&mut stream, &mut answer).await? > 0 {}
        Ok::<(), io::Error>(())
    })
    .await;
    output.push(&answer);
    Err(FailureCause::HttpStatus { status })
}

/// Reads what is there, up to the limit; nothing at the end, or at the limit.
async fn read_more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> io::Result<usize> {
    let room = MOST_READ.saturating_sub(answer.len());
    let mut limited = stream.take(room.try_into().unwrap_or(u64::MAX));
    limited.read_buf(answer).await
}
