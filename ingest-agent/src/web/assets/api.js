// Asks the agent. Knows no page.

/// What `path` answers. Throws where there is no answer within three seconds, or a refusal.
export async function get(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== undefined) query.set(name, value);
  }
  const text = query.toString();
  const address = `/api/v1/${path}${text ? `?${text}` : ""}`;
  const response = await fetch(address, { signal: AbortSignal.timeout(3000), cache: "no-store" });
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => ({}));
  const refusal = new Error(problem.error ?? `the agent answered ${response.status}`);
  refusal.status = response.status;
  throw refusal;
}
