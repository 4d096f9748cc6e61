{{- /*
A chart's values are in a section named after its component, so that one file can be used for all charts. They may
also be given without the section, as the umbrella chart passes them; that takes precedence. Both end up in the section.
Argument: list of .Values and the name of the section.
*/ -}}
{{- define "istio.section" -}}
{{- $values := index . 0 -}}
{{- $section := get $values (index . 1) -}}
{{- range $key := keys $section -}}
{{- if hasKey $values $key -}}
{{- include "istio.overlay" (list $section (dict $key (get $values $key))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
Merges the second map into the first, in place. Unlike mergeOverwrite, false, 0 and [] count as values.
Argument: list of two maps.
*/ -}}
{{- define "istio.overlay" -}}
{{- $under := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- $old := get $under $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- include "istio.overlay" (list $old $value) -}}
{{- else -}}
{{- $_ := set $under $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
