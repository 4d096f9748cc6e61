{{- /* Argument of all templates: dict of root and component (pilot, galley, …); gateways add app, their name, and
selector, a map. */ -}}

{{- /* Labels that Services and Deployments select. Kubernetes does not allow changing them. */ -}}
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

{{- /* Labels of a Pod; custom labels cannot replace the selected ones. Additional argument: values. */ -}}
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

{{- /* Annotations of a Pod. Additional argument: values. */ -}}
{{- define "istio.podAnnotations" -}}
{{- $annotations := dict
  "sidecar.istio.io/inject" "false"
  "prometheus.io/scrape" "true"
  "prometheus.io/port" "15014"
  "prometheus.io/path" "/metrics" -}}
{{- include "istio.overlay" (list $annotations .values.podAnnotations) -}}
{{- toYaml $annotations -}}
{{- end -}}
