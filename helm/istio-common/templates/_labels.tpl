{{- /* Argument of all: dict of root and component (pilot, galley, …); a gateway also gives app, its name, and
selector, a map. */ -}}

{{- /* What Services and Deployments select by. Never changes: Kubernetes does not allow it. */ -}}
{{- define "istio.selector" -}}
{{- if .selector }}
{{- toYaml .selector }}
{{- else -}}
istio: {{ .component }}
istio.io/rev: {{ include "istio.revision" .root }}
{{- end }}
{{- end -}}

{{- define "istio.labels" -}}
{{- $app := .app | default (printf "istio-%s" .component) -}}
app: {{ $app }}
istio: {{ .component }}
istio.io/rev: {{ include "istio.revision" .root }}
release: {{ .root.Release.Name }}
app.kubernetes.io/name: {{ $app }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: istio
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Labels of a Pod; those of the user cannot replace what is selected by. Argument: also values. */ -}}
{{- define "istio.podLabels" -}}
{{- $fixed := include "istio.selector" . | fromYaml -}}
{{- $labels := dict
  "app" (printf "istio-%s" .component)
  "app.kubernetes.io/name" (printf "istio-%s" .component)
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/part-of" "istio"
  "sidecar.istio.io/inject" "false" -}}
{{- include "istio.overlay" (list $labels .values.podLabels) -}}
{{- include "istio.overlay" (list $labels $fixed) -}}
{{- toYaml $labels -}}
{{- end -}}

{{- /* Annotations of a Pod. Argument: also values. */ -}}
{{- define "istio.podAnnotations" -}}
{{- $annotations := dict
  "sidecar.istio.io/inject" "false"
  "prometheus.io/scrape" "true"
  "prometheus.io/port" "15014"
  "prometheus.io/path" "/metrics" -}}
{{- include "istio.overlay" (list $annotations .values.podAnnotations) -}}
{{- toYaml $annotations -}}
{{- end -}}
