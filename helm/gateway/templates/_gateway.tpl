{{- /* Argument of all templates: root. */ -}}

{{- define "gateway.name" -}}
{{- .Values.gateway.name | default .Release.Name -}}
{{- end -}}

{{- /* Labels that Gateway objects, the Service and the Deployment select. */ -}}
{{- define "gateway.selector" -}}
{{- $name := include "gateway.name" . -}}
app: {{ .Values.gateway.labels.app | default $name }}
istio: {{ .Values.gateway.labels.istio | default (trimPrefix "istio-" $name) }}
{{- end -}}

{{- define "gateway.serviceAccountName" -}}
{{- .Values.gateway.serviceAccount.name | default (printf "%s-service-account" (include "gateway.name" .)) -}}
{{- end -}}

{{- /* "true" or "false". */ -}}
{{- define "gateway.secretAccess" -}}
{{- $access := toString .Values.gateway.secretAccess -}}
{{- ternary (ne .Release.Namespace (include "istio.namespace" .)) $access (eq $access "auto") -}}
{{- end -}}

{{- /* Moves the values into their section, and stores the argument of the shared templates in .Values.context. */ -}}
{{- define "gateway.setup" -}}
{{- include "istio.section" (list .Values "gateway") -}}
{{- $v := .Values.gateway -}}
{{- $selector := include "gateway.selector" . | fromYaml -}}
{{- $scaling := dict
  "replicaCount" $v.replicaCount
  "autoscaleEnabled" (and $v.autoscaling.enabled (eq $v.kind "Deployment"))
  "autoscaleMin" $v.autoscaling.minReplicas
  "autoscaleMax" $v.autoscaling.maxReplicas
  "cpu" (dict "targetAverageUtilization" $v.autoscaling.targetCPUUtilizationPercentage) -}}
{{- $context := dict
  "root" .
  "name" (include "gateway.name" .)
  "app" $selector.app
  "component" $selector.istio
  "selector" $selector
  "values" (merge $scaling $v) -}}
{{- $_ := set .Values "context" $context -}}
{{- end -}}

{{- /* Ports of the Service, as a YAML list under `ports`. */ -}}
{{- define "gateway.ports" -}}
{{- if .Values.gateway.service.ports }}
{{- toYaml (pick .Values.gateway.service "ports") }}
{{- else if .Values.gateway.networkGateway -}}
ports:
- {name: status-port, port: 15021, targetPort: 15021}
- {name: tls, port: 15443, targetPort: 15443}
- {name: tls-xds, port: 15012, targetPort: 15012}
- {name: tls-citadel, port: 8060, targetPort: 8060}
{{- else -}}
ports:
- {name: status-port, port: 15021, targetPort: 15021}
- {name: http2, port: 80, targetPort: 80}
- {name: https, port: 443, targetPort: 443}
{{- end }}
{{- end -}}
