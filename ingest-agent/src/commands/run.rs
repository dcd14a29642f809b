//! `ingest-agent run`: puts the agent together and runs it until a signal.

use std::{future::pending, io, path::Path, sync::Arc};

use ingest_common::abi;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
};
use tracing::info;

use super::begin::{Begun, Followed};
use crate::{
    agent::{Agent, Settings, Viewer},
    cli::{AnswerBy, KernelLog, Run, XdpMode},
    dataplane::{Dataplane, Lock, LogLevel, Options, Reader, XdpChoice},
    error::Error,
    metrics::{self, AgentMetrics, Probes, Read, StreamSeries},
    view,
    web::{self, Page},
};

pub(super) async fn run(pin_root: &Path, args: Run) -> Result<(), Error> {
    // From here on a signal stops the agent in order, however early it comes.
    let shutdown = signals()?;
    let begun = Begun::new(&args).await?;
    // Before anything else that a running agent holds: its presence is what must be told.
    let lock = Lock::acquire(pin_root)?;
    let address = args.metrics_addr;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::MetricsAddress { address, source })?;
    let options = options(pin_root, &args, begun.uplinks().to_vec());
    let dataplane = Dataplane::load(&options, &lock).await?;
    let metrics = Arc::new(AgentMetrics::default());
    let probes = Arc::new(Probes::default());
    let reader = Reader::open(pin_root)?;
    let held = !reader.services()?.is_empty();
    let view = view::Shared::default();
    let series = args.stream_series as usize;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(metrics::serve(
        listener,
        metrics.clone(),
        probes.clone(),
        Read {
            reader,
            view: view.clone(),
            series: StreamSeries::new(series, args.handshakes.stream_ids).into(),
        },
        async { drop(stopped.await) },
    ));
    info!(%address, "serving /metrics, /livez and /readyz");
    let page = page(pin_root, &args, &view).await?;

    let settings = Settings {
        delivery: args.delivery,
        drain_deadline: args.drain_deadline,
        drain_window: args.drain_window,
        pod_gro: args.cluster.pod_gro.then(|| args.cluster.netns_dir.clone()),
        secret_rotation: args.handshakes.secret_rotation,
        stream_ids: args.handshakes.stream_ids,
    };
    let veth = dataplane.uplinks().iter().any(|uplink| uplink.is_veth);
    let config = config(&args, veth);
    let Followed {
        first,
        changes,
        notices,
        tasks,
    } = begun.follow(&metrics, held).await?;
    let viewer = Viewer::new(
        Reader::open(pin_root)?,
        view,
        metrics.clone(),
        notices.clone(),
        args.handshakes.stream_ids,
    );
    let viewer = tokio::spawn(viewer.run());
    let started = Agent::start(
        dataplane, settings, first, &config, metrics, probes, notices,
    );
    // All maps are in it: too much for the stack.
    let (agent, watcher) = Box::pin(started).await?;
    let result = agent.run(watcher, changes, shutdown).await;
    viewer.abort();
    drop(tasks);
    // The server may be waiting for a scraper that does not read.
    drop(stop);
    server.abort();
    if let Some(page) = page {
        page.abort();
    }
    result
}

/// Serves the page of `view`, where it is wanted.
async fn page(
    pin_root: &Path,
    args: &Run,
    view: &view::Shared,
) -> Result<Option<JoinHandle<io::Result<()>>>, Error> {
    let Some(address) = args.page_addr else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::PageAddress { address, source })?;
    let page = Page::new(view.clone(), Reader::open(pin_root)?, args.page_shows);
    info!(%address, "serving the page and /api/v1");
    Ok(Some(tokio::spawn(web::serve(listener, page, pending()))))
}

/// Done when SIGTERM or SIGINT has come.
fn signals() -> Result<impl Future<Output = ()>, Error> {
    let listen = |kind| {
        signal(kind).map_err(|source| Error::Runtime {
            operation: "listening for signals",
            source,
        })
    };
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
    })
}

/// The packet path's settings. `veth`: an uplink is one.
fn config(args: &Run, veth: bool) -> abi::Config {
    let answer_by = match args.handshakes.answer_by {
        AnswerBy::Auto if veth => abi::AnswerBy::Tc,
        AnswerBy::Auto | AnswerBy::Xdp => abi::AnswerBy::Xdp,
        AnswerBy::Tc => abi::AnswerBy::Tc,
    };
    abi::Config {
        silence_ns: args.silence.as_nanos() as u64,
        answer_by: answer_by as u32,
        induction_interval_ns: interval_ns(args.handshakes.induction_rate),
        conclusion_interval_ns: interval_ns(args.handshakes.conclusion_rate),
        ..Default::default()
    }
}

/// Between two of so many a second; 0 of none, which is no bound.
fn interval_ns(a_second: u32) -> u64 {
    1_000_000_000_u64
        .checked_div(a_second.into())
        .unwrap_or_default()
}

fn options(pin_root: &Path, args: &Run, uplinks: Vec<String>) -> Options {
    Options {
        pin_root: pin_root.to_path_buf(),
        uplinks,
        xdp_mode: match args.xdp_mode {
            XdpMode::Auto => XdpChoice::Auto,
            XdpMode::Native => XdpChoice::Native,
            XdpMode::Generic => XdpChoice::Generic,
        },
        kernel_log: args.kernel_log.map(|level| match level {
            KernelLog::Error => LogLevel::Error,
            KernelLog::Warn => LogLevel::Warn,
            KernelLog::Info => LogLevel::Info,
            KernelLog::Debug => LogLevel::Debug,
            KernelLog::Trace => LogLevel::Trace,
        }),
        max_flows: args.max_flows,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config_of(arguments: &[&str], veth: bool) -> abi::Config {
        let start = ["ingest-agent", "run", "--config", "f"];
        let cli = Cli::try_parse_from(start.iter().chain(arguments)).unwrap();
        let Command::Run(args) = cli.command else {
            panic!("not run");
        };
        config(&args, veth)
    }

    #[test]
    fn without_arguments_the_settings_are_the_default_ones() {
        assert_eq!(config_of(&[], false), abi::Config::default());
    }

    #[test]
    fn rates_become_intervals_and_none_is_no_bound() {
        let config = config_of(&["--induction-rate", "4", "--conclusion-rate", "0"], false);
        assert_eq!(config.induction_interval_ns, 250_000_000);
        assert_eq!(config.conclusion_interval_ns, 0);
    }

    #[test]
    fn answers_leave_by_tc_where_an_uplink_is_a_veth_or_someone_says_so() {
        let by = |arguments: &[&str], veth| config_of(arguments, veth).answer_by;
        let (xdp, tc) = (abi::AnswerBy::Xdp as u32, abi::AnswerBy::Tc as u32);
        assert_eq!(by(&[], true), tc);
        assert_eq!(by(&["--answer-by", "xdp"], true), xdp);
        assert_eq!(by(&["--answer-by", "tc"], false), tc);
    }
}
