{{- /* The control plane's accounts that citadel keeps certificates for, by their name, with the name of their Service:
those of the default revision and of global.revisions. Argument: root. */ -}}
{{- define "citadel.accounts" -}}
{{- range $revision := concat (list "default") .Values.global.revisions | uniq }}
{{- $suffix := ternary "" (printf "-%s" $revision) (eq $revision "default") }}
{{- range list "galley" "pilot" "sidecar-injector" }}
istio-{{ . }}-service-account{{ $suffix }}: istio-{{ . }}{{ $suffix }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* --custom-dns-names: what citadel does not know by itself. Argument: root. */ -}}
{{- define "citadel.customDnsNames" -}}
{{- $pairs := list }}
{{- $namespace := .Release.Namespace }}
{{- range $account, $service := include "citadel.accounts" . | fromYaml }}
{{- if not (hasSuffix "-service-account" $account) }}
{{- range list "svc" (printf "svc.%s" $.Values.global.proxy.clusterDomain) "" }}
{{- $pairs = append $pairs (printf "%s.%s:%s.%s%s" $account $namespace $service $namespace (ternary "" (printf ".%s" .) (empty .))) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $account, $names := .Values.citadel.customDnsNames }}
{{- range $names }}
{{- $pairs = append $pairs (printf "%s:%s" $account .) }}
{{- end }}
{{- end }}
{{- join "," $pairs }}
{{- end -}}
