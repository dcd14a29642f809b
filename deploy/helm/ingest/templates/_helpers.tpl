{{/*
Names are fixed: one agent a node owns the maps, so there is one release in a cluster.
*/}}
{{- define "ingest.selector" -}}
app.kubernetes.io/name: ingest-agent
{{- end }}

{{- define "ingest.podLabels" -}}
{{ include "ingest.selector" . }}
app.kubernetes.io/part-of: ingest
{{- end }}

{{- define "ingest.labels" -}}
{{ include "ingest.podLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Where the agent serves its metrics and probes. */}}
{{- define "ingest.metricsAddr" -}}
{{- if .Values.metricsAddr -}}
{{ .Values.metricsAddr }}
{{- else if .Values.podMonitor -}}
$(NODE_IP):9464
{{- else -}}
127.0.0.1:9464
{{- end -}}
{{- end }}

{{/* The kubelet asks the pod's address, which is the node's, unless it is told of the loopback. */}}
{{- define "ingest.probe" -}}
{{- $addr := include "ingest.metricsAddr" .root -}}
httpGet:
{{- if hasPrefix "127." $addr }}
  host: {{ regexReplaceAll ":[0-9]+$" $addr "" }}
{{- else if hasPrefix "[::1]" $addr }}
  host: "::1"
{{- end }}
  path: {{ .path }}
  port: metrics
{{- end }}
