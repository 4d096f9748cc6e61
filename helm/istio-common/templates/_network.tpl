{{- /* Allows connections from everywhere, but only to these ports. Egress is not restricted.
Argument: dict of root, component, name and ports. */ -}}
{{- define "istio.networkPolicy" -}}
{{- if .root.Values.global.networkPolicy.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "istio.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
  - ports:
    {{- range .ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
{{- end }}
{{- end -}}
