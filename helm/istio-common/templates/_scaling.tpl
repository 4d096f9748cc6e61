{{- /* Minimum number of replicas. Argument: the values of the component. */ -}}
{{- define "istio.guaranteedReplicas" -}}
{{- ternary .autoscaleMin .replicaCount .autoscaleEnabled | int -}}
{{- end -}}

{{- /* Empty with autoscaling: an upgrade would reset the number of replicas. Argument: the values. */ -}}
{{- define "istio.replicas" -}}
{{- if not .autoscaleEnabled -}}
replicas: {{ int .replicaCount }}
{{- end -}}
{{- end -}}

{{- /* Argument of the other templates: dict of root, component, values and name. */ -}}

{{- /* With one replica a budget would block every drain of its node, so none is rendered. A budget has either minAvailable,
the default, or maxUnavailable, which replaces it. */ -}}
{{- define "istio.podDisruptionBudget" -}}
{{- $budget := .values.podDisruptionBudget -}}
{{- if hasKey $budget "maxUnavailable" -}}
{{- $budget = omit $budget "minAvailable" -}}
{{- end -}}
{{- if and $budget (gt (int (include "istio.guaranteedReplicas" .values)) 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
spec:
  {{- toYaml $budget | nindent 2 }}
  selector:
    matchLabels:
      {{- include "istio.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "istio.horizontalPodAutoscaler" -}}
{{- if .values.autoscaleEnabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicas: {{ int .values.autoscaleMin }}
  maxReplicas: {{ int .values.autoscaleMax }}
  metrics:
  - type: Resource
    resource:
      name: cpu
      target:
        type: Utilization
        averageUtilization: {{ int .values.cpu.targetAverageUtilization }}
  behavior:
    scaleDown:
      # Clients of a removed replica reconnect only after a while.
      stabilizationWindowSeconds: 300
{{- end }}
{{- end -}}
