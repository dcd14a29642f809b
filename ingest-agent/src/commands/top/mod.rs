//! `ingest-agent top`: the streams on a terminal.
//!
//! [`model`] is what is shown and what keys do to it, without a terminal; [`render`] and [`detail`] draw it. Here is the
//! loop: a look at the maps once a second, and keys in between. Streams' texts come escaped ([`crate::redact`]): none
//! moves the cursor.

mod detail;
mod model;
mod render;
mod style;

use std::{
    collections::HashMap,
    fs,
    io::{IsTerminal as _, stdin, stdout},
    path::Path,
    time::{Duration, Instant},
};

use ingest_common::reason::DropReason;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};

use self::{
    model::{Header, Model},
    style::Theme,
};
use super::{status::uplink, watch::Watch};
use crate::{
    cli::Top,
    dataplane::Lock,
    error::Error,
    view::{FailoverRow, Shown, StreamRow},
};

/// How often the maps are read.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a signal is heeded.
const SIGNALS: Duration = Duration::from_millis(100);

pub(super) fn run(pin_root: &Path, args: &Top) -> Result<(), Error> {
    if !(stdout().is_terminal() && stdin().is_terminal()) {
        return Err(Error::NoTerminal);
    }
    // Before the screen is taken: what is wrong with the pins is told as by any other command.
    let mut looker = Looker::open(pin_root, args)?;
    let mut model = Model::new(&args.filter);
    looker.look(&mut model)?;
    let signals = signals()?;
    // Its panic hook gives the terminal back.
    let mut terminal = ratatui::try_init().map_err(Error::Output)?;
    let ended = watch(&mut terminal, &mut looker, &mut model, &signals);
    ratatui::try_restore().map_err(Error::Output)?;
    ended
}

/// Those that ask for an end come here, so that the terminal is given back first.
fn signals() -> Result<SignalFd, Error> {
    let mut asked = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        asked.add(signal);
    }
    asked
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&asked, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .map_err(|errno| Error::Runtime {
            operation: "catching signals",
            source: errno.into(),
        })
}

fn watch(
    terminal: &mut DefaultTerminal,
    looker: &mut Looker<'_>,
    model: &mut Model,
    signals: &SignalFd,
) -> Result<(), Error> {
    let theme = Theme::of_environment();
    let mut due = Instant::now() + LOOK;
    let mut is_stale = true;
    loop {
        if is_stale {
            terminal
                .draw(|frame| render::draw(frame, model, theme))
                .map_err(Error::Output)?;
            is_stale = false;
        }
        let wait = due.saturating_duration_since(Instant::now()).min(SIGNALS);
        if event::poll(wait).map_err(Error::Output)? {
            is_stale = true;
            match event::read().map_err(Error::Output)? {
                Event::Key(key) if key.kind != KeyEventKind::Release => model.key(key),
                _ => {}
            }
        }
        let is_asked = matches!(signals.read_signal(), Ok(Some(_)));
        if is_asked || model.is_over() {
            return Ok(());
        }
        if Instant::now() >= due {
            // A reading that failed is told and the last one stays; the next may do.
            if let Err(error) = looker.look(model) {
                model.fail(error.chain());
            }
            due = Instant::now() + LOOK;
            is_stale = true;
        }
    }
}

/// Reads what [`Model`] shows.
struct Looker<'a> {
    watch: Watch,
    pin_root: &'a Path,
    shown: Shown,
    node: String,
    /// Drops by reason, and when they were counted.
    drops: Option<(Instant, HashMap<DropReason, u64>)>,
}

impl<'a> Looker<'a> {
    fn open(pin_root: &'a Path, args: &Top) -> Result<Self, Error> {
        // Without a name the header lacks one.
        let node = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self {
            watch: Watch::open(pin_root)?,
            pin_root,
            shown: Shown {
                stream_ids: args.stream_ids,
                clients: true,
            },
            node: node.trim().to_owned(),
            drops: None,
        })
    }

    fn look(&mut self, model: &mut Model) -> Result<(), Error> {
        self.watch.look()?;
        let reader = self.watch.reader();
        let node = reader.node()?;
        let judge = match (self.watch.by_agent(), Lock::is_held(self.pin_root)) {
            (true, _) => format!("agent {} judges", node.agent_pid),
            (false, true) => format!("agent {} does not judge: judged here", node.agent_pid),
            (false, false) => "no agent: judged here".to_owned(),
        };
        let uplinks = node.uplinks.iter().filter(|u| u.ifindex != 0).map(|u| {
            let u = uplink(u);
            format!("{} ({} XDP)", u.name, u.xdp_mode)
        });
        let header = Header {
            node: self.node.clone(),
            uplinks: uplinks.collect(),
            judge,
            is_judged_by_agent: self.watch.by_agent(),
            drops: self.drops()?,
        };
        let view = self.watch.view();
        let rows = view
            .streams()
            .map(|stream| StreamRow::detailed(stream, view, self.shown))
            .collect();
        let failovers = view
            .failovers()
            .map(|failover| FailoverRow::new(failover, view, self.shown))
            .collect();
        model.take(header, rows, failovers);
        Ok(())
    }

    /// Drops a second by reason, the most first.
    fn drops(&mut self) -> Result<Vec<(&'static str, f64)>, Error> {
        let now = Instant::now();
        let counts: HashMap<DropReason, u64> = self.watch.reader().drops()?.into_iter().collect();
        let mut rates = Vec::new();
        if let Some((then, before)) = &self.drops {
            let seconds = now.duration_since(*then).as_secs_f64().max(0.001);
            for (reason, count) in &counts {
                let new = count.saturating_sub(before.get(reason).copied().unwrap_or_default());
                if new > 0 {
                    #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
                    rates.push((reason.as_str(), new as f64 / seconds));
                }
            }
        }
        rates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        self.drops = Some((now, counts));
        Ok(rates)
    }
}

#[cfg(test)]
mod tests;
