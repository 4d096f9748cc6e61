{{- /* Values of Istio 1.1 that have another place now, or none. */ -}}

{{- /* The value at a dotted path as JSON; nothing if there is none. Argument: list of a map and the path. */ -}}
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
Refuses what would be unsafe to ignore: somebody relies on it, and would not notice that it is gone. Every chart
asks, so that the one that is installed first says so. Argument: root.
*/ -}}
{{- define "istio.refuse" -}}
{{- $unsafe := list
  (list "global.mtls.auto" "" "set meshConfig.enableAutoMtls in chart istio-config")
  (list "global.disablePolicyChecks" "false" "there is no mixer that could check; set true")
  (list "mixer.policy.enabled" "true" "there is no mixer that could check; set false")
  (list "global.oneNamespace" "true" "configuration of all namespaces is served; set false, and use Sidecar or exportTo")
  (list "global.outboundTrafficPolicy.mode" "\"REGISTRY_ONLY\"" "set meshConfig.outboundTrafficPolicy.mode in chart istio-config")
  (list "security.selfSigned" "false" "set citadel.selfSigned")
  (list "global.hub" "\"docker.io/istio\"" "images of Istio itself do not take these command lines")
  (list "global.istioRemote" "true" "a cluster without a control plane of its own is not supported")
-}}
{{- range $unsafe -}}
{{- $value := include "istio.at" (list $.Values (index . 0)) -}}
{{- if and $value (or (not (index . 1)) (eq $value (index . 1))) -}}
{{- fail (printf "%s=%s is not taken: %s" (index . 0) $value (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Warnings of NOTES. Argument: dict of root and keys, a map from dotted path to what to use instead. */ -}}
{{- define "istio.warnings" -}}
{{- range $path, $instead := .keys }}
{{- if include "istio.at" (list $.root.Values $path) }}
WARNING: {{ $path }} has no effect{{ with $instead }}; {{ . }}{{ end }}.
{{- end }}
{{- end }}
{{- end -}}

{{- /* Keys of 1.1 that several sections have. Argument: name of the section. */ -}}
{{- define "istio.sectionKeys" -}}
{{- $section := . -}}
{{ $section }}.podAntiAffinityLabelSelector: use {{ $section }}.affinity
{{ $section }}.podAntiAffinityTermLabelSelector: use {{ $section }}.affinity
{{- end -}}
