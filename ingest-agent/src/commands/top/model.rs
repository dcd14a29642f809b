//! What `top` shows, and what keys do to it. Knows no terminal but the names of keys.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::view::{FailoverRow, StreamRow};

/// The line above the streams.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// Name of the node.
    pub(super) node: String,
    /// Interfaces, with their XDP mode.
    pub(super) uplinks: Vec<String>,
    /// Who judges the streams.
    pub(super) judge: String,
    /// It is an agent.
    pub(super) is_judged_by_agent: bool,
    /// Packets dropped a second by reason, the most first.
    pub(super) drops: Vec<(&'static str, f64)>,
}

/// What streams are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    State,
    StreamId,
    Client,
    Pod,
    Route,
    Bitrate,
    Loss,
    Retransmitted,
    Rtt,
    Age,
}

impl Column {
    /// Every column, in their order on the screen.
    pub(super) const ALL: [Self; 10] = [
        Self::State,
        Self::StreamId,
        Self::Client,
        Self::Pod,
        Self::Route,
        Self::Bitrate,
        Self::Loss,
        Self::Retransmitted,
        Self::Rtt,
        Self::Age,
    ];

    fn compare(self, a: &StreamRow, b: &StreamRow) -> Ordering {
        // The most first: who sorts by a number looks for the worst, or the biggest.
        let most = |a: Option<f64>, b: Option<f64>| {
            let of = |value: Option<f64>| value.unwrap_or(-1.0);
            of(b).total_cmp(&of(a))
        };
        match self {
            Self::State => urgency(a).cmp(&urgency(b)),
            Self::StreamId => a.stream_id.cmp(&b.stream_id),
            Self::Client => a.client.cmp(&b.client),
            Self::Pod => a.backend.cmp(&b.backend),
            Self::Route => a.route.cmp(&b.route),
            Self::Bitrate => most(a.bitrate, b.bitrate),
            Self::Loss => most(a.loss, b.loss),
            Self::Retransmitted => most(a.retransmitted_share, b.retransmitted_share),
            Self::Rtt => most(a.rtt_ms, b.rtt_ms),
            Self::Age => most(Some(a.age_seconds), Some(b.age_seconds)),
        }
    }
}

/// States in the order in which people should look at them.
pub(super) const STATES: [&str; 5] = ["stalled", "warning", "draining", "ending", "active"];

fn urgency(row: &StreamRow) -> usize {
    STATES
        .iter()
        .position(|state| *state == row.state)
        .unwrap_or(STATES.len())
}

/// What `top` shows.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) header: Header,
    /// All streams, sorted.
    pub(super) rows: Vec<StreamRow>,
    pub(super) failovers: Vec<FailoverRow>,
    /// Indexes of those that the filter lets through.
    pub(super) visible: Vec<usize>,
    /// Which of `visible` is chosen.
    pub(super) chosen: usize,
    /// The first of `visible` on the screen; drawing moves it to where the chosen one is.
    pub(super) top: usize,
    /// Rows that fit; drawing sets it.
    pub(super) page: usize,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// The filter is being written.
    pub(super) is_writing: bool,
    pub(super) has_detail: bool,
    pub(super) has_help: bool,
    /// Why the last reading failed.
    pub(super) failure: Option<String>,
    is_over: bool,
}

impl Model {
    pub(super) fn new(filter: &str) -> Self {
        Self {
            header: Header::default(),
            rows: Vec::new(),
            failovers: Vec::new(),
            visible: Vec::new(),
            chosen: 0,
            top: 0,
            page: 1,
            sort: Column::State,
            reversed: false,
            filter: filter.to_owned(),
            is_writing: false,
            has_detail: false,
            has_help: false,
            failure: None,
            is_over: false,
        }
    }

    /// What was read just now.
    pub(super) fn take(
        &mut self,
        header: Header,
        rows: Vec<StreamRow>,
        failovers: Vec<FailoverRow>,
    ) {
        let chosen = self.chosen().map(key);
        self.header = header;
        self.rows = rows;
        self.failovers = failovers;
        self.failure = None;
        self.arrange(chosen.as_ref());
    }

    /// Reading failed.
    pub(super) fn fail(&mut self, why: String) {
        self.failure = Some(why);
    }

    /// Whether it was asked to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The stream that is chosen.
    pub(super) fn chosen(&self) -> Option<&StreamRow> {
        self.rows.get(*self.visible.get(self.chosen)?)
    }

    /// Streams of each of [`STATES`].
    pub(super) fn counts(&self) -> [usize; STATES.len()] {
        let mut counts = [0; STATES.len()];
        for row in &self.rows {
            if let Some(count) = counts.get_mut(urgency(row)) {
                *count += 1;
            }
        }
        counts
    }

    /// Bits a second of all streams.
    pub(super) fn bitrate(&self) -> f64 {
        self.rows.iter().filter_map(|row| row.bitrate).sum()
    }

    /// Sorts and filters. The stream that was chosen stays so; where it is gone, its place does.
    fn arrange(&mut self, chosen: Option<&Key>) {
        let (sort, reversed) = (self.sort, self.reversed);
        self.rows.sort_by(|a, b| {
            let order = sort.compare(a, b);
            let order = if reversed { order.reverse() } else { order };
            // What is equal keeps its place from second to second.
            order.then_with(|| {
                (&a.service, &a.stream_id, &a.client, &a.vip).cmp(&(
                    &b.service,
                    &b.stream_id,
                    &b.client,
                    &b.vip,
                ))
            })
        });
        let wanted = self.filter.to_lowercase();
        let rows = self.rows.iter().enumerate();
        self.visible = rows
            .filter(|(_, row)| matches(row, &wanted))
            .map(|(index, _)| index)
            .collect();
        let found = chosen.and_then(|chosen| {
            self.visible
                .iter()
                .position(|index| self.rows.get(*index).is_some_and(|row| is(row, chosen)))
        });
        self.choose(found.unwrap_or(self.chosen));
    }

    fn rearrange(&mut self) {
        let chosen = self.chosen().map(key);
        self.arrange(chosen.as_ref());
    }

    fn choose(&mut self, index: usize) {
        self.chosen = index.min(self.visible.len().saturating_sub(1));
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            if key.code == KeyCode::Char('c') {
                self.is_over = true;
            }
            return;
        }
        if self.is_writing {
            self.write(key.code);
            return;
        }
        if self.has_help {
            self.is_over = key.code == KeyCode::Char('q');
            self.has_help = false;
            return;
        }
        match key.code {
            KeyCode::Char('q') => self.is_over = true,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.has_help = true,
            KeyCode::Char('/') => self.is_writing = true,
            KeyCode::Char('s') => self.sort_by(1),
            KeyCode::Char('S') => self.sort_by(Column::ALL.len() - 1),
            KeyCode::Char('r') => {
                self.reversed = !self.reversed;
                self.rearrange();
            }
            KeyCode::Enter => self.has_detail = !self.has_detail,
            KeyCode::Esc if self.has_detail => self.has_detail = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.rearrange();
            }
            KeyCode::Char('j') | KeyCode::Down => self.choose(self.chosen.saturating_add(1)),
            KeyCode::Char('k') | KeyCode::Up => self.choose(self.chosen.saturating_sub(1)),
            KeyCode::PageDown => self.choose(self.chosen.saturating_add(self.page)),
            KeyCode::PageUp => self.choose(self.chosen.saturating_sub(self.page)),
            KeyCode::Home | KeyCode::Char('g') => self.choose(0),
            KeyCode::End | KeyCode::Char('G') => self.choose(usize::MAX),
            _ => {}
        }
    }

    fn sort_by(&mut self, steps: usize) {
        let columns = Column::ALL.iter().cycle();
        let next = columns
            .skip_while(|column| **column != self.sort)
            .nth(steps);
        self.sort = next.copied().unwrap_or(Column::State);
        self.rearrange();
    }

    /// The filter is used as it is written.
    fn write(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_writing = false,
            KeyCode::Esc => {
                self.is_writing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => return,
        }
        self.rearrange();
    }
}

/// Client and VIP: no two streams have both.
type Key = (String, String);

fn key(row: &StreamRow) -> Key {
    (row.client.clone(), row.vip.clone())
}

fn is(row: &StreamRow, key: &Key) -> bool {
    (&row.client, &row.vip) == (&key.0, &key.1)
}

fn matches(row: &StreamRow, wanted: &str) -> bool {
    let texts = [&row.service, &row.client, &row.id, &row.vip]
        .into_iter()
        .chain(&row.stream_id)
        .chain(&row.route)
        .chain(&row.backend)
        .map(String::as_str);
    let words = row.reasons.iter().copied().chain([row.state]);
    texts
        .chain(words)
        .any(|text| text.to_lowercase().contains(wanted))
}
