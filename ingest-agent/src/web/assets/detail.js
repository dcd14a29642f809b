// One stream: why it is not well, its last minute in charts, all its numbers.

import { Chart } from "./chart.js";
import { byId, element, stateMark, write } from "./dom.js";
import { bitrate, bytes, count, duration, milliseconds, name, none, percent } from "./format.js";

export class Detail {
  /// `ask()`: the stream's numbers are needed soon.
  constructor(ask) {
    this.ask = ask;
    this.id = null;
    this.caller = null;
    this.stateWord = null;
    this.dialog = byId("detail");
    this.charts = {
      bitrate: new Chart("bitrate", "Bitrate", bitrate),
      loss: new Chart("loss", "Loss before the node", percent),
      rtt: new Chart("rtt", "Round trip", milliseconds),
    };
    byId("detail-charts").append(...Object.values(this.charts).map((chart) => chart.node));
    this.facts = new Map();
    byId("detail-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => {
      // Outside of its content there is only the backdrop.
      if (event.target === this.dialog) this.dialog.close();
    });
    this.dialog.addEventListener("close", () => {
      this.id = null;
      this.forget();
    });
  }

  /// Opens for the stream of a row.
  open(row) {
    this.id = row.id;
    this.caller = row.caller_id;
    write(byId("detail-title"), name(row));
    byId("detail-gone").hidden = true;
    this.dialog.showModal();
    this.dialog.scrollTop = 0;
    history.replaceState(null, "", `#stream=${row.id}`);
    this.ask();
  }

  forget() {
    if (location.hash.startsWith("#stream=")) history.replaceState(null, "", location.pathname);
  }

  gone() {
    byId("detail-gone").hidden = false;
  }

  /// Shows an answer of `/streams/{id}`.
  draw({ sessions }) {
    const row = sessions.find((session) => session.caller_id === this.caller) ?? sessions[0];
    byId("detail-gone").hidden = true;
    write(byId("detail-title"), name(row));
    if (this.stateWord !== row.state) {
      this.stateWord = row.state;
      byId("detail-state").replaceChildren(stateMark(row.state));
    }
    const { thresholds, history, explained } = row.detail;
    const shown = [...byId("detail-reasons").children].map((item) => item.textContent);
    if (shown.join("\n") !== explained.join("\n")) {
      byId("detail-reasons").replaceChildren(...explained.map((text) => element("li", {}, text)));
    }
    const longest = thresholds.max_rtt !== null && row.latency_ms !== null ? thresholds.max_rtt * row.latency_ms : null;
    this.charts.bitrate.draw(history.bitrate, { limit: thresholds.min_bitrate, word: "should be at least", floor: 1000 });
    this.charts.loss.draw(history.loss, { limit: thresholds.max_loss, word: "should be at most", floor: 0.02 });
    this.charts.rtt.draw(history.rtt_ms, { limit: longest, word: "should be at most", floor: 1 });
    this.drawFacts(row, sessions.length);
  }

  drawFacts(row, sessions) {
    const latency = row.latency_ms ?? row.sender_latency_ms;
    const facts = [
      ["In this state for", duration(row.since_seconds)],
      ["Accepted", `${duration(row.age_seconds)} ago`],
      ["Last packet", `${milliseconds(row.idle_ms + 0.1)} ago`],
      ["Service", row.service],
      ["VIP", row.vip],
      ["Route", row.route ?? "none: the service's own pods"],
      ["Pod", row.backend ?? none],
      ["Client", row.client],
      ["Latency", latency === null ? none : `${count(latency)} ms${row.latency_ms === null ? " asked for" : ""}`],
      ["Round trip", row.rtt_ms === null ? none : `${milliseconds(row.rtt_ms)} ± ${milliseconds(row.rtt_variance_ms)}`],
      ["Encryption", row.encryption ?? none],
      ["Caller's SRT", row.peer_version ?? none],
      ["Packets up", `${count(row.up_packets)} (${bytes(row.up_bytes)})`],
      ["Packets down", `${count(row.down_packets)} (${bytes(row.down_bytes)})`],
      ["Packets a second", row.packets_per_second === null ? none : count(row.packets_per_second)],
      ["Lost before the node", `${count(row.lost)} (${percent(row.loss)} now)`],
      ["Reported lost by the pod", `${count(row.reported_lost)} in ${count(row.naks)} reports`],
      ["Sent again", `${count(row.retransmitted)} (${percent(row.retransmitted_share)} now)`],
      ["Free in the pod's buffer", row.receive_buffer === null ? none : `${count(row.receive_buffer)} packets`],
      ["Reconnects", count(row.reconnects)],
      ["Failovers", count(row.failovers)],
      ["Sessions of this stream", count(sessions)],
      ["Id", row.id],
    ];
    for (const [title, text] of facts) {
      if (!this.facts.has(title)) {
        const value = element("dd");
        byId("detail-facts").append(element("div", {}, element("dt", {}, title), value));
        this.facts.set(title, value);
      }
      write(this.facts.get(title), text);
    }
  }
}
