{{- /* Values of Istio 1.1 that were moved or removed. */ -}}

{{- /* The value at a dotted path as JSON; empty if there is none. Argument: list of a map and the path. */ -}}
{{- define "istio.at" -}}
{{- $node := index . 0 -}}
{{- $found := true -}}
{{- range $name := splitList "." (index . 1) -}}
{{- if and $found (kindIs "map" $node) (hasKey $node $name) -}}
{{- $node = get $node $name -}}
{{- else -}}
{{- $found = false -}}
{{- end -}}
{{- end -}}
{{- if $found }}{{ toJson $node }}{{ end -}}
{{- end -}}

{{- /*
Rejects values that would be unsafe to ignore, as users may rely on them. Every chart includes this, so that the
first one that is installed reports them. Argument: root.
*/ -}}
{{- define "istio.refuse" -}}
{{- $unsafe := list
  (list "global.mtls.auto" "" "set meshConfig.enableAutoMtls in chart istio-config")
  (list "global.disablePolicyChecks" "false" "there is no mixer to check policies; set it to true")
  (list "mixer.policy.enabled" "true" "there is no mixer to check policies; set it to false")
  (list "global.oneNamespace" "true" "the configuration of all namespaces is served; set it to false, and use Sidecar or exportTo")
  (list "global.outboundTrafficPolicy.mode" "\"REGISTRY_ONLY\"" "set meshConfig.outboundTrafficPolicy.mode in chart istio-config")
  (list "security.selfSigned" "false" "set citadel.selfSigned")
  (list "global.hub" "\"docker.io/istio\"" "Istio's own images do not support these command lines; use images of this project")
  (list "global.istioRemote" "true" "clusters without their own control plane are not supported")
-}}
{{- range $unsafe -}}
{{- $value := include "istio.at" (list $.Values (index . 0)) -}}
{{- if and $value (or (not (index . 1)) (eq $value (index . 1))) -}}
{{- fail (printf "%s=%s is not supported: %s" (index . 0) $value (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Warnings in NOTES. Argument: dict of root and keys, a map from dotted paths to replacements. */ -}}
{{- define "istio.warnings" -}}
{{- range $path, $instead := .keys }}
{{- if include "istio.at" (list $.root.Values $path) }}
WARNING: {{ $path }} has no effect{{ with $instead }}; {{ . }}{{ end }}.
{{- end }}
{{- end }}
{{- end -}}

{{- /* Keys of 1.1 in several sections. Argument: name of the section. */ -}}
{{- define "istio.sectionKeys" -}}
{{- $section := . -}}
{{ $section }}.podAntiAffinityLabelSelector: use {{ $section }}.affinity
{{ $section }}.podAntiAffinityTermLabelSelector: use {{ $section }}.affinity
{{- end -}}
