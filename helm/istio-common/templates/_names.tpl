{{- /* Argument of all templates: the root context. */ -}}

{{- /* Revision, or "default". */ -}}
{{- define "istio.revision" -}}
{{- .Values.revision | default "default" -}}
{{- end -}}

{{- /* Suffix of a component's name: empty, or "-<revision>". */ -}}
{{- define "istio.suffix" -}}
{{- $revision := include "istio.revision" . -}}
{{- if ne $revision "default" }}-{{ $revision }}{{ end -}}
{{- end -}}

{{- /* Suffix of the names of webhook configurations. These are cluster-scoped, so it includes the namespace. */ -}}
{{- define "istio.webhookSuffix" -}}
{{- include "istio.suffix" . -}}
{{- if ne .Release.Namespace "istio-system" }}-{{ .Release.Namespace }}{{ end -}}
{{- end -}}

{{- /* Namespace of the control plane. */ -}}
{{- define "istio.namespace" -}}
{{- .Values.global.istioNamespace | default .Release.Namespace -}}
{{- end -}}

{{- /* Address of pilot for proxies, and how they authenticate it. */ -}}
{{- define "istio.discoveryAddress" -}}
istio-pilot{{ include "istio.suffix" . }}.{{ include "istio.namespace" . }}.svc:{{ ternary 15012 15010 .Values.global.controlPlaneSecurityEnabled }}
{{- end -}}
{{- define "istio.authPolicy" -}}
{{- ternary "MUTUAL_TLS" "NONE" .Values.global.controlPlaneSecurityEnabled -}}
{{- end -}}

{{- /* Address of the certificate authority for proxies. */ -}}
{{- define "istio.caAddress" -}}
{{- .Values.global.caAddress | default (printf "istio-citadel.%s.svc:8060" (include "istio.namespace" .)) -}}
{{- end -}}

{{- /* Reference of an image: <hub>/<image>:<tag>; an image with a slash is used unchanged.
Argument: dict of root and image. */ -}}
{{- define "istio.image" -}}
{{- $global := .root.Values.global -}}
{{- if contains "/" .image -}}
{{- .image -}}
{{- else -}}
{{- printf "%s/%s:%s" $global.hub .image (toString ($global.tag | default .root.Chart.AppVersion)) -}}
{{- end -}}
{{- end -}}
