{{- /* --custom-dns-names: names of revisions, which share accounts and certificates, and names in the values.
Argument: root. */ -}}
{{- define "citadel.customDnsNames" -}}
{{- $namespace := .Release.Namespace }}
{{- $domain := .Values.global.proxy.clusterDomain }}
{{- $pairs := list }}
{{- range $revision := .Values.global.revisions }}
{{- range $component := list "galley" "pilot" "sidecar-injector" }}
{{- $service := printf "istio-%s-%s.%s" $component $revision $namespace }}
{{- range list (printf "%s.svc" $service) $service (printf "%s.svc.%s" $service $domain) }}
{{- $pairs = append $pairs (printf "istio-%s-service-account.%s:%s" $component $namespace .) }}
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
