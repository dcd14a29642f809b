// Numbers as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const none = "–";

/// 12,345
export function count(value) {
  return whole.format(value);
}

/// 4.02 Mbit/s
export function bitrate(bits) {
  return scaled(bits, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);
}

/// 1.5 MB
export function bytes(value) {
  return scaled(value, ["B", "kB", "MB", "GB", "TB"]);
}

function scaled(value, units) {
  if (value === null || value === undefined) return none;
  let unit = 0;
  // 999.96 would be shown as 1000.0.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/// 1.3 %
export function percent(share) {
  if (share === null || share === undefined) return none;
  const value = share * 100;
  if (value === 0) return "0 %";
  return value < 0.05 ? "< 0.1 %" : `${value.toFixed(value >= 10 ? 0 : 1)} %`;
}

/// 40.2 ms
export function milliseconds(value) {
  if (value === null || value === undefined || value === 0) return none;
  if (value >= 10000) return duration(value / 1000);
  return `${value.toFixed(value >= 100 ? 0 : 1)} ms`;
}

/// 2h05m
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return none;
  const all = Math.floor(seconds);
  const parts = [
    [86400, "d"],
    [3600, "h"],
    [60, "m"],
    [1, "s"],
  ];
  const first = parts.findIndex(([length]) => all >= length);
  if (first < 0) return "0s";
  const [long, longWord] = parts[first];
  const big = `${Math.floor(all / long)}${longWord}`;
  if (first === parts.length - 1) return big;
  const [short, shortWord] = parts[first + 1];
  return `${big}${String(Math.floor((all % long) / short)).padStart(2, "0")}${shortWord}`;
}

/// 20:41:07, in the viewer's time zone.
export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

/// What a stream is called: its Stream ID, or where it comes from.
export function name(row) {
  return row.stream_id ?? `no Stream ID, from ${row.client}`;
}
