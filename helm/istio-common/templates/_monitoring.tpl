{{- /* Objects of the Prometheus operator; disabled by default, as clusters without it do not know these kinds. */ -}}

{{- /* Argument: dict of root, component and name. */ -}}
{{- define "istio.serviceMonitor" -}}
{{- $monitor := .root.Values.global.monitoring.serviceMonitor -}}
{{- if $monitor.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
    {{- with $monitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "istio.selector" . | nindent 6 }}
  endpoints:
  - port: http-monitoring
    path: /metrics
    interval: {{ $monitor.interval }}
{{- end }}
{{- end -}}

{{- /* Additional argument: alerts, a list of maps with alert, expr, for, severity and summary. */ -}}
{{- define "istio.prometheusRule" -}}
{{- $rule := .root.Values.global.monitoring.prometheusRule -}}
{{- if $rule.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
    {{- with $rule.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  groups:
  - name: {{ .name }}
    rules:
    {{- range .alerts }}
    - alert: {{ .alert }}
      expr: {{ .expr | quote }}
      for: {{ .for }}
      labels:
        severity: {{ .severity }}
      annotations:
        summary: {{ .summary | quote }}
    {{- end }}
{{- end }}
{{- end -}}
